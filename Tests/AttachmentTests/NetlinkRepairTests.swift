import AttachmentModel
import FakeDriver
import Glibc
import LinuxKernel
import NBDProtocol
import Synchronization
import Testing

@testable import Attachment

@Suite("a device of netlink's loses links and gets new ones")
struct NetlinkRepairTests {
  private let lab: NetlinkLab

  init() throws { lab = try NetlinkLab() }

  @Test(
    "the end of the only link is told at once, and that I/O is held", arguments: [nil, .seconds(60)] as [Duration?])
  func loss(reconnectTimeout: Duration?) async throws {
    let (device, pairs) = try await lab.bound { $0.reconnectTimeout = reconnectTimeout }
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    #expect(device.isAlive && device.linkCount == 0 && device.sockets.isEmpty)
  }

  @Test("without a reconnect-timeout I/O is not held, and that is told")
  func notHeld() async throws {
    let (_, pairs) = try await lab.bound { $0.reconnectTimeout = .zero }
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: false)])
  }

  @Test("of several links each loss is told, with how many are left")
  func several() async throws {
    let (device, pairs) = try await lab.bound(links: 3)
    pairs[1].end()
    try await lab.waitForLosses([LinkLoss(remaining: 2, holdsIO: true)])
    #expect(device.sockets.map(\.number) == [pairs[0], pairs[2]].map(\.link.socket.number))
    pairs[0].end()
    try await lab.waitForLosses([2, 1].map { LinkLoss(remaining: $0, holdsIO: true) })
    pairs[2].end()
    try await lab.waitForLosses([2, 1, 0].map { LinkLoss(remaining: $0, holdsIO: true) })
  }

  @Test("a server that closes only its half is shut out: the kernel must not go on to send")
  func halfClosed() async throws {
    let (_, pairs) = try await lab.bound()
    pairs[0].endHalf()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    #expect(pairs[0].hasEnded)
  }

  @Test("what the driver says of a link that was seen to end is no second loss")
  func announced() async throws {
    let (device, pairs) = try await lab.bound(links: 2)
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 1, holdsIO: true)])
    device.driverSaysLinkDead()
    device.driverSaysLinkDead()
    #expect(lab.losses.count == 1 && device.linkCount == 1)
  }

  @Test("new links go into the places of dead ones, by a request that says nothing of the size")
  func repair() async throws {
    let (device, pairs) = try await lab.bound()
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    let next = try lab.pair()
    try await bind(device, [next], in: lab)
    var expected = FakeRequest(.reconfigure, index: 5000)
    expected.backend = "nbdattach:data"
    expected.socketCount = 1
    expected.deadConnectionTimeout = NBDConnectRequest.endlessSeconds
    #expect(lab.driver.requests.last == expected)
    #expect(lab.driver.requests.count == 2)
    #expect(lab.driver.holds(next.link.socket, in: 5000))
    #expect(device.linkCount == 1)
    next.end()
    try await lab.waitForLosses([LinkLoss](repeating: LinkLoss(remaining: 0, holdsIO: true), count: 2))
  }

  @Test("a changed reconnect-timeout comes with the new links, also one that ends the holding")
  func changedTimeout() async throws {
    let (device, pairs) = try await lab.bound()
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    let next = try lab.pair()
    try await bind(device, [next], in: lab) { $0.reconnectTimeout = .zero }
    #expect(lab.driver.requests.last?.deadConnectionTimeout == 0)
    next.end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true), LinkLoss(remaining: 0, holdsIO: false)])
  }

  @Test("a reconnect-timeout can be changed while the links are up, without touching them")
  func holdIO() async throws {
    let (device, _) = try await lab.bound()
    try await device.holdIO(for: .seconds(7))
    var expected = FakeRequest(.reconfigure, index: 5000)
    expected.backend = "nbdattach:data"
    expected.deadConnectionTimeout = 7
    expected.linksUp = 1
    #expect(lab.driver.requests.last == expected)
    #expect(device.linkCount == 1)
  }

  @Test("a larger export makes the device grow in a request of its own, after the links")
  func growth() async throws {
    let (device, pairs) = try await lab.bound()
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    try await bind(device, [try lab.pair()], in: lab) { $0.size = 2 << 20 }
    let reconfigurations = lab.driver.requests.filter { $0.command == .reconfigure }
    #expect(reconfigurations.map(\.socketCount) == [1, 0])
    #expect(reconfigurations.map(\.size) == [nil, 2 << 20])
    #expect(reconfigurations.last?.backend == "nbdattach:data")
    #expect(lab.driver.sysfs.size(of: 5000) == 2 << 20)
  }

  @Test("renewing shuts the live links down first, since the kernel takes new ones only in the place of dead ones")
  func renewal() async throws {
    let (device, pairs) = try await lab.bound(links: 2)
    let next = [try lab.pair(), try lab.pair()]
    try await bind(device, next, in: lab, .replacingAll)
    #expect(lab.driver.requests.last?.linksUp == 0)
    #expect(pairs.map(\.hasEnded) == [true, true])
    #expect(next.map { lab.driver.holds($0.link.socket, in: 5000) } == [true, true])
    #expect(device.linkCount == 2)
    #expect(lab.losses == [])
  }

  @Test("a driver that calls a link dead where all are up has dropped a new one: none can be relied on")
  func contradiction() async throws {
    let (device, pairs) = try await lab.bound()
    device.driverSaysLinkDead()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    #expect(pairs[0].hasEnded)
  }

  @Test("sockets wait until the driver has noticed the death of those before, which it would else drop in silence")
  func announcedFirst() async throws {
    let (device, pairs) = try await lab.bound()
    let deaths = Deaths()
    lab.driver.announceDeaths { deaths.add($0) }
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    try await eventually("the driver has noticed it") { deaths.count == 1 }
    let next = try lab.pair()
    async let binding: Void = bind(device, [next], in: lab)
    try await Task.sleep(for: .milliseconds(30))
    #expect(lab.driver.requests.count == 1)
    device.driverSaysLinkDead()
    try await binding
    #expect(lab.driver.holds(next.link.socket, in: 5000))
  }

  @Test("once the reconnect-timeout has passed I/O is told to fail, and with new links all is as before")
  func stopHoldingIO() async throws {
    let (device, pairs) = try await lab.bound { $0.reconnectTimeout = .seconds(60) }
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    await device.stopHoldingIO()
    var expected = FakeRequest(.reconfigure, index: 5000)
    expected.backend = "nbdattach:data"
    expected.timeout = 1
    expected.deadConnectionTimeout = 0
    #expect(lab.driver.requests.last == expected)
    lab.driver.write("", to: "queue/io_timeout", of: 5000)
    try await bind(device, [try lab.pair()], in: lab) { $0.reconnectTimeout = .seconds(60) }
    #expect(lab.driver.requests.last?.timeout == 0)
    #expect(lab.driver.requests.last?.deadConnectionTimeout == 60)
    // Saying the timeout has reset it.
    #expect(lab.setting("queue/io_timeout") == "1000")
  }

  @Test("a renewal that can't make the device grow says so, and keeps the new links")
  func growthRefused() async throws {
    let (device, _) = try await lab.bound()
    lab.driver.refuse { $0.size == 2 << 20 ? ENOSPC : nil }
    let next = try lab.pair()
    let problem = try await failure { () throws(Failure) in
      try await bind(device, [next], in: lab, .replacingAll) { $0.size = 2 << 20 }
    }
    #expect(problem.errnoCode == ENOSPC)
    #expect(device.linkCount == 1 && device.sockets.first === next.link.socket)
    next.end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
  }

  @Test("a repair that can't make the device grow is one nevertheless")
  func growthRefusedAtRepair() async throws {
    let (device, pairs) = try await lab.bound()
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    lab.driver.refuse { $0.size == 2 << 20 ? EBUSY : nil }
    try await bind(device, [try lab.pair()], in: lab) { $0.size = 2 << 20 }
    #expect(device.linkCount == 1)
  }

  @Test("a device that somebody else has taken is never reconfigured")
  func takenByOther() async throws {
    let (device, pairs) = try await lab.bound()
    lab.driver.write("somebody", to: "backend", of: 5000)
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    lab.driver.refuse { request in request.command == .connect ? ENODEV : nil }
    let problem = try await failure { () throws(Failure) in try await bind(device, [try lab.pair()], in: lab) }
    #expect(problem.errnoCode == ENODEV)
    #expect(!device.isAlive)
    #expect(!lab.driver.requests.contains { $0.command == .reconfigure })
    try await device.release(timeout: .milliseconds(1))
    #expect(!lab.driver.requests.contains { $0.command == .disconnect })
  }

  @Test("a device that somebody has detached is made again, under its number")
  func detachedByOther() async throws {
    let (device, _) = try await lab.bound()
    try await lab.driver.netlink.disconnect(index: 5000, within: .seconds(60))
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    try await bind(device, [try lab.pair()], in: lab)
    #expect(lab.driver.requests.last?.command == .connect)
    #expect(device.index == 5000 && device.linkCount == 1)
  }
}

private final class Deaths: Sendable {
  private let indexes = Mutex<[Int]>([])
  var count: Int { indexes.withLock { $0.count } }
  func add(_ index: Int) { indexes.withLock { $0.append(index) } }
}
