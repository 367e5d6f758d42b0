import CLinuxNBD
import Glibc

/// One way in which a block device is in use, such as a mount of it or of one of its partitions.
package enum DeviceUse: Equatable, Sendable, CustomStringConvertible {
  case mounted(at: String)
  case swap(String)
  /// A device built on top: device mapper, md, loop.
  case holder(String)

  package var description: String {
    switch self {
    case .mounted(let path): "mounted on \(path)"
    case .swap(let device): "swap on \(device)"
    case .holder(let device): "held by \(device)"
    }
  }

  /// All uses of `/dev/nbdX` and its partitions that the kernel tells of; empty where it is free to go.
  package static func uses(
    ofDevice index: Int, sysfs: NBDSysfs = NBDSysfs(), procfs: String = "/proc"
  ) -> [DeviceUse] {
    let disk = "nbd\(index)"
    let parts = blockDevices(of: disk, sysfs: sysfs)
    let numbers = Set(parts.compactMap { readSmallFile("\($0.path)/dev") })
    let names = Set(parts.map { "/dev/\($0.name)" })
    let mounts = parseMounts(
      readSmallFile("\(procfs)/self/mountinfo", limit: 16 << 20) ?? "", devices: numbers, names: names)
    let swaps = parseSwaps(readSmallFile("\(procfs)/swaps") ?? "", devices: names)
    let holders = parts.flatMap { part in
      directoryEntries("\(part.path)/holders").map { DeviceUse.holder("/dev/\($0)") }
    }
    return mounts.map { .mounted(at: $0) } + swaps.map { .swap($0) } + holders
  }

  /// Mount points of the devices with these `major:minor` numbers or names such as `/dev/nbd0`, each once, from the
  /// text of mountinfo (proc_pid_mountinfo(5)), with its octal escapes undone.
  ///
  /// Names are looked at because btrfs shows a number of its own making in place of the device's.
  package static func parseMounts(_ text: String, devices: Set<String>, names: Set<String> = []) -> [String] {
    var points: [String] = []
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count >= 5 else { continue }
      // Optional fields end with a lone dash; type and source follow it.
      let source = fields.dropFirst(6).drop { $0 != "-" }.dropFirst(2).first.map { unescape($0) }
      guard devices.contains(String(fields[2])) || source.map({ names.contains($0) }) == true else { continue }
      let point = unescape(fields[4])
      if !points.contains(point) { points.append(point) }
    }
    return points
  }

  /// Swap devices among `devices`, from the text of `/proc/swaps`.
  package static func parseSwaps(_ text: String, devices: Set<String>) -> [String] {
    text.split(separator: "\n").dropFirst().compactMap { line in
      guard let name = line.split(separator: " ").first.map({ unescape($0) }), devices.contains(name) else {
        return nil
      }
      return name
    }
  }

  private static func blockDevices(of disk: String, sysfs: NBDSysfs) -> [(name: String, path: String)] {
    let base = "\(sysfs.root)/block/\(disk)"
    let partitions = directoryEntries(base).filter { $0.hasPrefix("\(disk)p") }
    return [(disk, base)] + partitions.map { ($0, "\(base)/\($0)") }
  }

  private static func unescape(_ text: Substring) -> String {
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      if byte == UInt8(ascii: "\\"), digits.count == 3, digits.first != UInt8(ascii: "+"),
        let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 8)
      {
        bytes.append(value)
        rest.removeFirst(3)
      } else {
        bytes.append(byte)
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}

/// Writes out a mounted file system's dirty data (syncfs(2)). Blocks for as long as its device takes.
package func syncFileSystem(at path: String) throws(SystemCallError) {
  let file = try FileDescriptor.open(path, O_RDONLY | O_DIRECTORY)
  let number = file.number
  guard syncfs(number) == 0 else { throw lastError("syncfs \(path)") }
}
