import Glibc

/// Who has a device open, as /proc tells it: by the links in `/proc/PID/fd`.
///
/// Reading such a link opens nothing and waits for no disk. Descriptors of another root directory or mount namespace
/// are found where the device has its usual name there. Other users' processes need CAP_SYS_PTRACE (proc_pid_fd(5)).
extension DeviceUse {
  /// How many processes are named for each device.
  static let namedOpeners = 3
  /// Descriptors of one process that are looked at, so that no single one can keep us busy.
  private static let descriptorLimit = 1 << 16

  /// They look at a device for a moment whenever it changes, and let go by themselves.
  private static let transientProcesses: Set<String> = ["systemd-udevd", "(udev-worker)", "blkid"]

  /// - Parameter own: the process whose descriptors don't count: on the classic interface the daemon has each device
  ///   open itself.
  static func openers(of owners: Owners, procfs: String, own: Int32 = getpid()) -> [Int: [DeviceUse]] {
    var processes: [Int: [(name: String, pid: Int32)]] = [:]
    for entry in directoryEntries(procfs) {
      guard let pid = Int32(entry), pid > 0, pid != own else { continue }
      let devices = openDevices("\(procfs)/\(entry)/fd", owners)
      // One without a name has ended meanwhile.
      guard !devices.isEmpty, let name = readSmallFile("\(procfs)/\(entry)/comm"), !transientProcesses.contains(name)
      else { continue }
      for device in devices { processes[device, default: []].append((name, pid)) }
    }
    return processes.mapValues { processes in
      let sorted = processes.sorted { $0.pid < $1.pid }
      var uses = sorted.prefix(namedOpeners).map { DeviceUse.openBy(process: printable($0.name), pid: $0.pid) }
      if sorted.count > namedOpeners { uses.append(.openByOthers(count: sorted.count - namedOpeners)) }
      return uses
    }
  }

  /// Those of the devices that a process with this directory of descriptors has open; empty where it has ended.
  private static func openDevices(_ path: String, _ owners: Owners) -> Set<Int> {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var devices: Set<Int> = []
    // Longer than any name that is looked for, so that what is cut off matches none.
    var target = [UInt8](repeating: 0, count: 64)
    var count = 0
    while count < descriptorLimit, let entry = readdir(directory) {
      count += 1
      let length = readLink(&entry.pointee.d_name, in: directory, into: &target)
      guard length > 0, length < target.count, target.starts(with: "/dev/nbd".utf8) else { continue }
      var name = String(decoding: target.prefix(length), as: UTF8.self)
      // Its node was made anew meanwhile (fs/d_path.c, path_with_deleted).
      if name.hasSuffix(" (deleted)") { name.removeLast(" (deleted)".count) }
      if let device = owners.byName[name] { devices.insert(device) }
    }
    return devices
  }

  private static func readLink<Name>(
    _ name: inout Name, in directory: OpaquePointer, into target: inout [UInt8]
  ) -> Int {
    withUnsafeBytes(of: &name) { name in
      target.withUnsafeMutableBytes { target in
        guard let name = name.bindMemory(to: CChar.self).baseAddress,
          let start = target.bindMemory(to: CChar.self).baseAddress
        else { return -1 }
        return readlinkat(dirfd(directory), name, start, target.count)
      }
    }
  }

  /// A process chooses its name itself: what could steer a terminal or end the line is escaped.
  private static func printable(_ name: String) -> String {
    var result = ""
    for scalar in name.unicodeScalars {
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned, .surrogate:
        result += "\\u{\(String(scalar.value, radix: 16))}"
      default:
        result.unicodeScalars.append(scalar)
      }
    }
    return result
  }
}
