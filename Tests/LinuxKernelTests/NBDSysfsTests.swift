import Glibc
import Testing

@testable import LinuxKernel

@Suite("what sysfs says of nbd devices")
struct NBDSysfsTests {
  private let directory: TemporaryDirectory
  private let sysfs: NBDSysfs

  /// As a kernel shows them: nbd0 attached, nbd1 free, nbd2 set up and still without a size, nbd10 with a size alone.
  init() throws {
    directory = try TemporaryDirectory()
    sysfs = NBDSysfs(root: directory.path)
    for (name, size, pid) in [
      ("nbd0", "2097152", "812"), ("nbd1", "0", nil), ("nbd2", "0", "4711"), ("nbd10", "8", nil),
    ] as [(String, String, String?)] {
      try directory.write("\(size)\n", to: "block/\(name)/size")
      if let pid { try directory.write("\(pid)\n", to: "block/\(name)/pid") }
    }
    try directory.write("43:0\n", to: "block/nbd0/dev")
    try directory.write("1280\n", to: "block/nbd0/queue/max_sectors_kb")
    for other in ["sda", "loop0", "nbd", "nbdx", "nbd-1", "xnbd3"] {
      try directory.write("1\n", to: "block/\(other)/size")
    }
  }

  @Test("devices come in the order of their numbers, and nothing else among them")
  func indexes() {
    #expect(sysfs.indexes() == [0, 1, 2, 10])
  }

  @Test("without the module there are none")
  func noModule() throws {
    let empty = NBDSysfs(root: try TemporaryDirectory().path)
    #expect(empty.indexes() == [])
    #expect(empty.occupancy(of: 0) == .missing)
  }

  @Test("a pid or a size means that a device is in use")
  func occupancy() {
    #expect(sysfs.occupancy(of: 0) == .inUse(pid: 812))
    #expect(sysfs.occupancy(of: 1) == .free)
    #expect(sysfs.occupancy(of: 2) == .inUse(pid: 4711))
    #expect(sysfs.occupancy(of: 10) == .inUse(pid: nil))
    #expect(sysfs.occupancy(of: 3) == .missing)
  }

  @Test("a pid that is no number is one nevertheless")
  func oddPid() throws {
    try directory.write("?\n", to: "block/nbd1/pid")
    #expect(sysfs.occupancy(of: 1) == .inUse(pid: nil))
  }

  @Test("a device can be used when it has both")
  func usable() throws {
    #expect(sysfs.isUsable(0))
    #expect(!sysfs.isUsable(1))
    #expect(!sysfs.isUsable(2))
    #expect(!sysfs.isUsable(3))
    #expect(!sysfs.isUsable(10))
    try directory.remove("block/nbd0/pid")
    #expect(!sysfs.isUsable(0))
  }

  @Test("number and largest request are read and written")
  func attributes() throws {
    #expect(sysfs.deviceNumber(of: 0) == "43:0")
    #expect(sysfs.deviceNumber(of: 1) == nil)
    #expect(sysfs.largestRequest(of: 0) == 1280)
    #expect(sysfs.largestRequest(of: 1) == nil)
    try sysfs.setLargestRequest(of: 0, kibibytes: 64)
    // A file of sysfs would hold the number alone; this one keeps what was longer.
    #expect(readSmallFile("\(directory.path)/block/nbd0/queue/max_sectors_kb")?.hasPrefix("64\n") == true)
  }

  @Test("what can't be written says which file it was")
  func unwritable() {
    let error = #expect(throws: SystemCallError.self) { try sysfs.setLargestRequest(of: 7, kibibytes: 64) }
    #expect(error?.code == ENOENT)
    #expect(error?.call.contains("nbd7/queue/max_sectors_kb") == true)
  }
}
