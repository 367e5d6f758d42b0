import Foundation
import Glibc
import Testing

@testable import LinuxKernel

@Suite("who has a device open")
struct DeviceOpenersTests {
  /// A copy of the shapes of /proc and /sys: /dev/nbd0 with one partition, and /dev/nbd1.
  private struct Shapes {
    let directory: TemporaryDirectory
    var procfs: String { "\(directory.path)/proc" }
    var sysfs: NBDSysfs { NBDSysfs(root: "\(directory.path)/sys") }

    init() throws {
      directory = try TemporaryDirectory()
      try directory.write("43:0\n", to: "sys/block/nbd0/dev")
      try directory.write("43:1\n", to: "sys/block/nbd0/nbd0p1/dev")
      try directory.write("43:32\n", to: "sys/block/nbd1/dev")
      try directory.write("22 1 254:1 / / rw - ext4 /dev/vda1 rw\n", to: "proc/self/mountinfo")
      try directory.write("Filename Type\n", to: "proc/swaps")
      try directory.write("4096\n", to: "proc/sys/kernel/pid_max")
    }

    func process(_ pid: Int32, _ name: String?, open targets: [String]) throws {
      let fds = "\(procfs)/\(pid)/fd"
      try FileManager.default.createDirectory(atPath: fds, withIntermediateDirectories: true)
      for (number, target) in targets.enumerated() {
        try FileManager.default.createSymbolicLink(atPath: "\(fds)/\(number)", withDestinationPath: target)
      }
      if let name { try directory.write(name + "\n", to: "proc/\(pid)/comm") }
    }

    func uses(of devices: Set<Int>) -> [Int: [String]] {
      DeviceUse.uses(ofDevices: devices, sysfs: sysfs, procfs: procfs).mapValues { $0.map(\.description) }
    }
  }

  @Test("a process that has a device or a partition open is named, once for each device")
  func open() throws {
    let shapes = try Shapes()
    try shapes.process(20, "qemu", open: ["/dev/null", "/dev/nbd0", "/dev/nbd0p1", "/dev/nbd1", "socket:[17]"])
    try shapes.process(3, "dd", open: ["/dev/nbd0p1 (deleted)"])
    try shapes.process(5, "sleep", open: ["/dev/nbd2", "/dev/nbd10", "/dev/nbd0p12", "/srv/dev/nbd0", "nbd0"])
    #expect(
      shapes.uses(of: [0, 1, 3]) == [
        0: ["open in dd (process 3)", "open in qemu (process 20)"],
        1: ["open in qemu (process 20)"],
      ])
  }

  @Test(
    "udev and its probes, which let go by themselves, don't count",
    arguments: [
      "systemd-udevd", "(udev-worker)", "blkid",
    ])
  func transient(name: String) throws {
    let shapes = try Shapes()
    try shapes.process(20, name, open: ["/dev/nbd0"])
    #expect(shapes.uses(of: [0]) == [:])
  }

  @Test("this process does not count")
  func own() throws {
    let shapes = try Shapes()
    try shapes.process(getpid(), "nbdattachd", open: ["/dev/nbd0"])
    #expect(shapes.uses(of: [0]) == [:])
    let owners = DeviceUse.Owners(byName: ["/dev/nbd0": 0])
    #expect(DeviceUse.openers(of: owners, procfs: shapes.procfs, own: getpid() + 1).keys.sorted() == [0])
  }

  @Test("a process that ends while it is looked at does not count")
  func vanished() throws {
    let shapes = try Shapes()
    try shapes.process(20, nil, open: ["/dev/nbd0"])
    try shapes.directory.write("gone\n", to: "proc/21/comm")
    #expect(shapes.uses(of: [0]) == [:])
  }

  @Test("a few processes are named, the others counted")
  func many() throws {
    let shapes = try Shapes()
    for pid in Int32(100)..<110 { try shapes.process(pid, "fio", open: ["/dev/nbd0"]) }
    #expect(
      shapes.uses(of: [0])[0] == [
        "open in fio (process 100)", "open in fio (process 101)", "open in fio (process 102)",
        "open in 7 more processes",
      ])
  }

  @Test("a device is found among thousands of descriptors, whatever they lead to")
  func descriptors() throws {
    let shapes = try Shapes()
    let long = "/dev/nbd0" + String(repeating: "/x", count: 1000)
    try shapes.process(
      20, "server", open: (0..<3000).map { "socket:[\($0)]" } + [long, "/dev/nbd", "/dev/nbdx", "/dev/nbd1"])
    #expect(shapes.uses(of: [0, 1]) == [1: ["open in server (process 20)"]])
  }

  @Test("a process can't steer a terminal with its name, nor end the line")
  func hostileName() throws {
    let shapes = try Shapes()
    try shapes.process(20, "a\u{1b}[2J\nb\u{202e}", open: ["/dev/nbd0"])
    #expect(shapes.uses(of: [0])[0] == ["open in a\\u{1b}[2J\\u{a}b\\u{202e} (process 20)"])
  }

  @Test("a loop device holds what it is backed by")
  func loops() throws {
    let shapes = try Shapes()
    try shapes.directory.write("/dev/nbd0p1\n", to: "sys/block/loop3/loop/backing_file")
    try shapes.directory.write("/srv/image\n", to: "sys/block/loop4/loop/backing_file")
    try shapes.directory.write("0\n", to: "sys/block/loop5/size")
    #expect(shapes.uses(of: [0, 1]) == [0: ["held by /dev/loop3"]])
  }

  @Test("one look tells of many devices, and nothing of those that are free")
  func manyDevices() throws {
    let shapes = try Shapes()
    for index in 2..<500 { try shapes.directory.write("43:\(index * 32)\n", to: "sys/block/nbd\(index)/dev") }
    try shapes.directory.write(
      """
      40 22 43:0 / /srv/a rw - ext4 /dev/nbd0 rw
      41 22 43:9600 / /srv/b rw - ext4 /dev/nbd300 rw

      """, to: "proc/self/mountinfo")
    try shapes.directory.write("Filename Type\n/dev/nbd499 partition 1 0 -2\n", to: "proc/swaps")
    try shapes.process(20, "fio", open: ["/dev/nbd1", "/dev/nbd300"])
    #expect(
      shapes.uses(of: Set(0..<500)) == [
        0: ["mounted on /srv/a"], 1: ["open in fio (process 20)"],
        300: ["mounted on /srv/b", "open in fio (process 20)"], 499: ["swap on /dev/nbd499"],
      ])
    #expect(shapes.uses(of: []) == [:])
  }
}
