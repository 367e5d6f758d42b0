import CLinuxNBD
import Glibc

/// One way in which a block device is in use, such as a mount of it or of one of its partitions.
package enum DeviceUse: Equatable, Sendable, CustomStringConvertible {
  case mounted(at: String)
  case swap(String)
  /// A device built on top: device mapper, md, loop.
  case holder(String)
  /// A process has the device open; its name is fit for one line of a message.
  case openBy(process: String, pid: Int32)
  /// Further processes have it open, which are not named.
  case openByOthers(count: Int)

  package var description: String {
    switch self {
    case .mounted(let path): "mounted on \(path)"
    case .swap(let device): "swap on \(device)"
    case .holder(let device): "held by \(device)"
    case .openBy(let process, let pid): "open in \(process) (process \(pid))"
    case .openByOthers(let count): count == 1 ? "open in 1 more process" : "open in \(count) more processes"
    }
  }

  /// Processes come and go; the others stay until somebody ends them.
  package var isProcess: Bool {
    switch self {
    case .openBy, .openByOthers: true
    case .mounted, .swap, .holder: false
    }
  }

  /// All uses of `/dev/nbdX` and its partitions that the kernel tells of; empty where it is free to go.
  package static func uses(
    ofDevice index: Int, sysfs: NBDSysfs = NBDSysfs(), procfs: String = "/proc"
  ) -> [DeviceUse] {
    uses(ofDevices: [index], sysfs: sysfs, procfs: procfs)[index] ?? []
  }

  /// The same for many devices, with one look at the system for all; those that are free to go are left out.
  package static func uses(
    ofDevices indexes: Set<Int>, sysfs: NBDSysfs = NBDSysfs(), procfs: String = "/proc"
  ) -> [Int: [DeviceUse]] {
    guard !indexes.isEmpty else { return [:] }
    var owners = Owners()
    var holders: [Int: [DeviceUse]] = [:]
    for index in indexes {
      for part in blockDevices(of: "nbd\(index)", sysfs: sysfs) {
        owners.byName["/dev/\(part.name)"] = index
        if let number = readSmallFile("\(part.path)/dev") { owners.byNumber[number] = index }
        holders[index, default: []] += directoryEntries("\(part.path)/holders").map { .holder("/dev/\($0)") }
      }
    }
    var uses: [Int: [DeviceUse]] = [:]
    let mountinfo = readSmallFile("\(procfs)/self/mountinfo", limit: 16 << 20) ?? ""
    for (index, point) in parseMounts(mountinfo, owners) { uses[index, default: []].append(.mounted(at: point)) }
    for (index, name) in parseSwaps(readSmallFile("\(procfs)/swaps") ?? "", owners) {
      uses[index, default: []].append(.swap(name))
    }
    uses.merge(holders.filter { !$0.value.isEmpty }) { $0 + $1 }
    uses.merge(loops(over: owners, sysfs: sysfs)) { $0 + $1 }
    uses.merge(openers(of: owners, procfs: procfs)) { $0 + $1 }
    return uses
  }

  /// Which of the devices asked for a name such as `/dev/nbd0p1`, or a `major:minor` number, belongs to.
  struct Owners: Equatable, Sendable {
    var byNumber: [String: Int] = [:]
    var byName: [String: Int] = [:]
  }

  /// Mount points of these devices, each once, from the text of mountinfo (proc_pid_mountinfo(5)), with its octal
  /// escapes undone.
  ///
  /// Names are looked at because btrfs shows a number of its own making in place of the device's.
  static func parseMounts(_ text: String, _ owners: Owners) -> [(device: Int, point: String)] {
    var mounts: [(device: Int, point: String)] = []
    var seen: [Int: Set<String>] = [:]
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count >= 5 else { continue }
      // Optional fields end with a lone dash; type and source follow it.
      let source = fields.dropFirst(6).drop { $0 != "-" }.dropFirst(2).first.map { unescape($0) }
      guard let device = owners.byNumber[String(fields[2])] ?? source.flatMap({ owners.byName[$0] }) else { continue }
      let point = unescape(fields[4])
      if seen[device, default: []].insert(point).inserted { mounts.append((device, point)) }
    }
    return mounts
  }

  /// These devices' swap, by name, from the text of `/proc/swaps`.
  static func parseSwaps(_ text: String, _ owners: Owners) -> [(device: Int, name: String)] {
    text.split(separator: "\n").dropFirst().compactMap { line in
      guard let name = line.split(separator: " ").first.map({ unescape($0) }), let device = owners.byName[name] else {
        return nil
      }
      return (device, name)
    }
  }

  private static func blockDevices(of disk: String, sysfs: NBDSysfs) -> [(name: String, path: String)] {
    let base = "\(sysfs.root)/block/\(disk)"
    let partitions = directoryEntries(base).filter { $0.hasPrefix("\(disk)p") }
    return [(disk, base)] + partitions.map { ($0, "\(base)/\($0)") }
  }

  /// Loop devices, which the kernel does not list as holders (drivers/block/loop.c, loop_attr_backing_file_show).
  private static func loops(over owners: Owners, sysfs: NBDSysfs) -> [Int: [DeviceUse]] {
    var uses: [Int: [DeviceUse]] = [:]
    for name in directoryEntries("\(sysfs.root)/block") where name.hasPrefix("loop") {
      guard let file = readSmallFile("\(sysfs.root)/block/\(name)/loop/backing_file"), let device = owners.byName[file]
      else { continue }
      uses[device, default: []].append(.holder("/dev/\(name)"))
    }
    return uses
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
