/// What sysfs says of the nbd devices. Every answer may be out of date when it arrives: the driver's own EBUSY decides.
package struct NBDSysfs: Sendable {
  /// `/sys`, or a copy of its shape in tests.
  package let root: String

  package init(root: String = "/sys") { self.root = root }

  package enum Occupancy: Equatable, Sendable {
    case missing
    case free
    /// `pid` is that of the thread that set it up, where the kernel says; it may be gone long since.
    case inUse(pid: Int32?)
  }

  /// The numbers X of all `nbdX`, in order; empty when the module is not loaded.
  package func indexes() -> [Int] {
    directoryEntries("\(root)/block").compactMap { name in
      guard name.hasPrefix("nbd"), let index = Int(name.dropFirst(3)), index >= 0 else { return nil }
      return index
    }.sorted()
  }

  /// A device is in use when the driver shows a `pid` (nbd_start_device makes it, nbd_config_put removes it when the
  /// last opener has gone) or a size.
  package func occupancy(of index: Int) -> Occupancy {
    guard let size = readSmallFile("\(root)/block/nbd\(index)/size") else { return .missing }
    if let pid = readSmallFile("\(root)/block/nbd\(index)/pid") { return .inUse(pid: Int32(pid)) }
    return size == "0" ? .free : .inUse(pid: nil)
  }

  /// The driver has bound the device and given it a size: it can be opened and read.
  package func isUsable(_ index: Int) -> Bool {
    guard readSmallFile("\(root)/block/nbd\(index)/pid") != nil else { return false }
    return readSmallFile("\(root)/block/nbd\(index)/size").map { $0 != "0" } ?? false
  }

  /// The device's number as the kernel writes it, such as `43:0`.
  package func deviceNumber(of index: Int) -> String? { readSmallFile("\(root)/block/nbd\(index)/dev") }

  /// The largest request that the kernel makes of the device, in KiB.
  package func largestRequest(of index: Int) -> Int? {
    readSmallFile("\(root)/block/nbd\(index)/queue/max_sectors_kb").flatMap { Int($0) }
  }

  /// Bounds the requests that the kernel makes of the device, in KiB. EINVAL below a page or above the driver's limit.
  package func setLargestRequest(of index: Int, kibibytes: Int) throws(SystemCallError) {
    try writeSmallFile("\(root)/block/nbd\(index)/queue/max_sectors_kb", "\(kibibytes)\n")
  }
}
