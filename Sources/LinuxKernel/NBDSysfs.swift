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

  /// Whose the device is, as said when netlink connected it; `nil` where nobody said. Survives the process that did.
  package func backend(of index: Int) -> String? { readSmallFile("\(root)/block/nbd\(index)/backend") }

  /// The whole device in bytes; 0 while it is not attached.
  package func size(of index: Int) -> UInt64? {
    // In sectors of 512 bytes, whatever the block size (Documentation/ABI/stable/sysfs-block).
    guard let sectors = number("size", of: index) else { return nil }
    let (bytes, overflows) = sectors.multipliedReportingOverflow(by: 512)
    return overflows ? nil : bytes
  }

  /// In bytes.
  package func logicalBlockSize(of index: Int) -> Int? {
    number("queue/logical_block_size", of: index).flatMap { Int(exactly: $0) }
  }

  package func isReadOnly(of index: Int) -> Bool? { number("ro", of: index).map { $0 != 0 } }

  /// Requests that the kernel has handed to the driver and that are not answered.
  package func inflight(of index: Int) -> (reads: UInt64, writes: UInt64)? {
    guard let numbers = numbers("inflight", of: index), numbers.count >= 2 else { return nil }
    return (reads: numbers[0], writes: numbers[1])
  }

  /// Requests answered since the device was made: reads, writes, discards and flushes. It wraps.
  package func completedRequests(of index: Int) -> UInt64? {
    guard let numbers = numbers("stat", of: index), numbers.count >= 11 else { return nil }
    // Documentation/block/stat.rst: discards since Linux 4.18, flushes since 5.5.
    return [0, 4, 11, 15].reduce(0) { sum, field in sum &+ (field < numbers.count ? numbers[field] : 0) }
  }

  /// How long a request may take before the driver's timer looks at it, in milliseconds.
  package func ioTimeout(of index: Int) -> UInt64? { number("queue/io_timeout", of: index) }

  /// Sets the block layer's timer, which each NBD_ATTR_TIMEOUT sets back. Can wait for I/O in flight: never on a thread
  /// that has to answer it. EINVAL for 0.
  package func setIOTimeout(of index: Int, milliseconds: UInt32) throws(SystemCallError) {
    try writeSmallFile("\(root)/block/nbd\(index)/queue/io_timeout", "\(milliseconds)\n")
  }

  private func number(_ name: String, of index: Int) -> UInt64? {
    readSmallFile("\(root)/block/nbd\(index)/\(name)").flatMap { UInt64($0) }
  }

  private func numbers(_ name: String, of index: Int) -> [UInt64]? {
    guard let text = readSmallFile("\(root)/block/nbd\(index)/\(name)") else { return nil }
    let words = text.split(whereSeparator: \.isWhitespace)
    let numbers = words.compactMap { UInt64($0) }
    return numbers.count == words.count ? numbers : nil
  }
}
