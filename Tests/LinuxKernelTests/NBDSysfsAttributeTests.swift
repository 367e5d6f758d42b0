import Glibc
import Testing

@testable import LinuxKernel

@Suite("what sysfs says of one nbd device")
struct NBDSysfsAttributeTests {
  private let directory: TemporaryDirectory
  private let sysfs: NBDSysfs

  /// As Linux 6.1 shows them: nbd0 attached by netlink, nbd1 by an older kernel's ioctl, nbd2 free.
  init() throws {
    directory = try TemporaryDirectory()
    sysfs = NBDSysfs(root: directory.path)
    for (file, text) in [
      "nbd0/backend": "nbdattach:data", "nbd0/size": "131072", "nbd0/ro": "0",
      "nbd0/inflight": "       3        1",
      "nbd0/stat": "      83        1     2049       12        7        0       56        4        0       40"
        + "       16        2        0        0        0        5        9",
      "nbd0/queue/io_timeout": "30000", "nbd0/queue/logical_block_size": "4096",
      "nbd1/size": "8", "nbd1/ro": "1",
      "nbd1/stat": "      10        1     2049       12        7        0       56        4        0       40       16",
      "nbd2/size": "0",
    ] {
      try directory.write("\(text)\n", to: "block/\(file)")
    }
  }

  @Test("the backend is there where netlink gave one")
  func backend() {
    #expect(sysfs.backend(of: 0) == "nbdattach:data")
    #expect(sysfs.backend(of: 1) == nil)
    #expect(sysfs.backend(of: 3) == nil)
  }

  @Test("the size is in bytes, also where the logical block is larger than a sector")
  func size() throws {
    #expect(sysfs.size(of: 0) == 64 << 20)
    #expect(sysfs.size(of: 2) == 0)
    #expect(sysfs.size(of: 3) == nil)
    try directory.write("\(UInt64.max / 512 + 1)\n", to: "block/nbd2/size")
    #expect(sysfs.size(of: 2) == nil)
  }

  @Test("block size and read-only state")
  func geometry() {
    #expect(sysfs.logicalBlockSize(of: 0) == 4096)
    #expect(sysfs.logicalBlockSize(of: 1) == nil)
    #expect(sysfs.isReadOnly(of: 0) == false)
    #expect(sysfs.isReadOnly(of: 1) == true)
    #expect(sysfs.isReadOnly(of: 2) == nil)
  }

  @Test("reads and writes in flight")
  func inflight() throws {
    let inflight = try #require(sysfs.inflight(of: 0))
    #expect(inflight.reads == 3)
    #expect(inflight.writes == 1)
    #expect(sysfs.inflight(of: 1) == nil)
  }

  @Test("completed requests are reads, writes, discards and flushes, as far as the kernel counts them")
  func completed() {
    #expect(sysfs.completedRequests(of: 0) == 83 + 7 + 2 + 5)
    #expect(sysfs.completedRequests(of: 1) == 17)
    #expect(sysfs.completedRequests(of: 2) == nil)
  }

  @Test("text that is no number, or too little of it, is nothing", arguments: ["", "x", "1 x", "1", "-1 -1"])
  func nonsense(text: String) throws {
    for name in ["inflight", "stat"] { try directory.write("\(text)\n", to: "block/nbd2/\(name)") }
    #expect(sysfs.inflight(of: 2) == nil)
    #expect(sysfs.completedRequests(of: 2) == nil)
  }

  @Test("counters at their end wrap instead of trapping")
  func wrapping() throws {
    let text = Array(repeating: "\(UInt64.max)", count: 17).joined(separator: " ")
    try directory.write("\(text)\n", to: "block/nbd2/stat")
    #expect(sysfs.completedRequests(of: 2) == UInt64.max &* 4)
  }

  @Test("the timer is read and written in milliseconds")
  func timer() throws {
    #expect(sysfs.ioTimeout(of: 0) == 30000)
    try directory.write("", to: "block/nbd0/queue/io_timeout")
    try sysfs.setIOTimeout(of: 0, milliseconds: 1000)
    #expect(sysfs.ioTimeout(of: 0) == 1000)
    let error = #expect(throws: SystemCallError.self) { try sysfs.setIOTimeout(of: 7, milliseconds: 1000) }
    #expect(error?.code == ENOENT)
  }
}
