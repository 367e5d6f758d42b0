import AttachmentModel
import FakeDriver
import Glibc
import LinuxKernel
import Synchronization
import Testing

@testable import Attachment

@Suite("a device of netlink's is bound")
struct NetlinkBindingTests {
  private let lab: NetlinkLab

  init() throws { lab = try NetlinkLab() }

  @Test("CONNECT carries everything that the kernel would guess or keep from the number's last user")
  func connect() async throws {
    let (device, pairs) = try await lab.bound()
    var expected = FakeRequest(.connect, index: 5000)
    expected.backend = "nbdattach:data"
    expected.size = 1 << 20
    expected.blockSize = 4096
    expected.serverFlags = 0b101
    expected.clientFlags = 0
    expected.timeout = 0
    expected.deadConnectionTimeout = NBDConnectRequest.endlessSeconds
    expected.socketCount = 1
    #expect(lab.driver.requests == [expected])
    #expect(lab.driver.holds(pairs[0].link.socket, in: 5000))
    #expect(device.index == 5000 && device.isAlive && device.linkCount == 1)
    #expect(device.sockets.map(\.number) == pairs.map(\.link.socket.number))
    #expect(lab.setting("queue/io_timeout") == "1000")
  }

  @Test(
    "the reconnect-timeout becomes the kernel's in whole seconds, rounded up; none at all where I/O is not held",
    arguments: [
      (.zero, nil), (.milliseconds(1), 1), (.seconds(90), 90), (.milliseconds(1001), 2),
      (nil, NBDConnectRequest.endlessSeconds), (.seconds(-3), nil),
    ] as [(Duration?, UInt64?)])
  func reconnectTimeout(timeout: Duration?, seconds: UInt64?) async throws {
    _ = try await lab.bound { $0.reconnectTimeout = timeout }
    #expect(lab.driver.requests.map(\.deadConnectionTimeout) == [seconds])
  }

  @Test("with several links the request-timeout is the kernel's, with one it is ours", arguments: [1, 2])
  func requestTimeout(links: Int) async throws {
    _ = try await lab.bound(links: links) { $0.requestTimeout = .milliseconds(6500) }
    #expect(lab.driver.requests.map(\.socketCount) == [links])
    #expect(lab.driver.requests.map(\.timeout) == [links == 1 ? 0 : 7])
    // The timer of several links kills live ones: it is not made shorter.
    #expect(lab.setting("queue/io_timeout") == (links == 1 ? "1000" : ""))
  }

  @Test("requests larger than the server takes are never made", arguments: [(16, "16"), (32 << 10, "128")])
  func largestRequest(kibibytes: Int, setting: String) async throws {
    _ = try await lab.bound { $0.maximumRequest = kibibytes << 10 }
    #expect(lab.setting("queue/max_sectors_kb") == setting)
  }

  @Test("a number that udev has open for a moment is tried again until it is free")
  func busy() async throws {
    lab.driver.add(5000)
    lab.driver.setOpen(5000, true)
    let driver = lab.driver
    driver.refuse { _ in
      // Whoever has it open closes it after the third try.
      if driver.requests.count == 3 { return EBUSY }
      return nil
    }
    async let device = lab.bound()
    try await eventually("three tries") { driver.requests.count == 3 }
    driver.setOpen(5000, false)
    #expect(try await device.0.isAlive)
    #expect(driver.requests.count >= 4)
  }

  @Test("what is refused for another reason than being busy is said at once, and the number given back")
  func refused() async throws {
    lab.driver.refuse { _ in EPERM }
    let problem = try await failure { () throws(Failure) in try await bind(lab.device(), [try lab.pair()], in: lab) }
    #expect(problem.phase == .binding && problem.errnoCode == EPERM && problem.advice == .giveUp)
    #expect(lab.driver.requests.count == 1)
    #expect(lab.kernel.registry.reserve(5000, for: "other") == nil)
  }

  @Test("a device that another program has is never asked for")
  func foreign() async throws {
    lab.driver.addConnected(5000, backend: "somebody")
    let problem = try await failure { () throws(Failure) in try await bind(lab.device(), [try lab.pair()], in: lab) }
    #expect(problem.errnoCode == EBUSY && problem.advice == .giveUp)
    #expect(lab.driver.requests.isEmpty)
  }

  @Test("any free one is none that another program has, nor one that the configuration names for another attachment")
  func anyFree() async throws {
    lab.driver.addConnected(5000, backend: "somebody")
    lab.driver.addConnected(5001, backend: nil)
    lab.driver.add(5002)
    lab.driver.add(5003)
    lab.kernel.registry.keep([5002: "named"])
    let first = lab.device("a", .anyFree)
    try await bind(first, [try lab.pair()], in: lab)
    #expect(first.index == 5003)
    let named = lab.device("named", .index(5002))
    try await bind(named, [try lab.pair()], in: lab)
    #expect(named.index == 5002)
  }

  @Test("where none is free one is made, with the lowest number that neither exists nor is named")
  func newDevice() async throws {
    lab.driver.addConnected(0, backend: "somebody")
    lab.kernel.registry.keep([1: "named"])
    let pairs = [try lab.pair(), try lab.pair()]
    let devices = [lab.device("a", .anyFree), lab.device("b", .anyFree)]
    for (device, pair) in zip(devices, pairs) { try await bind(device, [pair], in: lab) }
    #expect(devices.map(\.index) == [2, 3])
  }

  @Test("a device that was quicker taken by another program is left for the next one")
  func race() async throws {
    lab.driver.add(5000)
    lab.driver.add(5001)
    let driver = lab.driver
    driver.refuse { request in
      guard request.index == 5000 else { return nil }
      // The other program has it from now on.
      driver.write("1", to: "pid", of: 5000)
      return EBUSY
    }
    let device = lab.device("a", .anyFree)
    try await bind(device, [try lab.pair()], in: lab)
    #expect(device.index == 5001)
    #expect(lab.kernel.registry.reserve(5000, for: "other") == nil)
  }

  @Test("a number of another attachment of ours is not asked for")
  func reserved() async throws {
    _ = lab.kernel.registry.reserve(5000, for: "owner")
    let problem = try await failure { () throws(Failure) in try await bind(lab.device(), [try lab.pair()], in: lab) }
    #expect(problem.message == "/dev/nbd5000 belongs to attachment owner")
    #expect(lab.driver.requests.isEmpty)
  }
}
