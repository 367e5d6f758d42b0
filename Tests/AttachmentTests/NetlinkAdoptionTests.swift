import AttachmentModel
import FakeDriver
import Glibc
import LinuxKernel
import Testing

@testable import Attachment

@Suite("a device of a former process is taken over")
struct NetlinkAdoptionTests {
  private let lab: NetlinkLab

  init() throws { lab = try NetlinkLab() }

  /// `isReadable`: reads are answered over the links that nobody watches.
  private func adopt(links: Int, _ pairs: [Pair], isReadable: Bool = true) throws -> NetlinkDevice {
    try lab.driver.addNode(5000, isReadable: isReadable)
    lab.driver.addConnected(5000, backend: "nbdattach:data", links: pairs.map(\.link.socket))
    return NetlinkDevice(
      adopting: lab.record(links: links), sockets: pairs.map(\.link.socket), kernel: lab.kernel)
  }

  @Test("with its links' sockets their ends are seen, and nothing is sent to the kernel")
  func withSockets() async throws {
    let pairs = [try lab.pair(), try lab.pair()]
    let device = try adopt(links: 2, pairs)
    #expect(device.index == 5000 && device.isAlive && device.linkCount == 2)
    #expect(lab.kernel.registry.reserve(5000, for: "other") == "data")
    device.tellLosses(to: lab.onLoss)
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 1, holdsIO: true)])
    #expect(lab.driver.requests.isEmpty)
  }

  @Test("a link that ended while no process was there is not counted")
  func endedMeanwhile() throws {
    let pairs = [try lab.pair(), try lab.pair()]
    pairs[0].end()
    let device = try adopt(links: 2, pairs)
    #expect(device.linkCount == 1)
  }

  @Test("one that ends before anybody listens is told to who listens first")
  func endedBeforeListening() async throws {
    let pairs = [try lab.pair()]
    let device = try adopt(links: 1, pairs)
    pairs[0].end()
    try await eventually("the end is seen") {
      device.linkCount == 0 || DescriptorWatcher.hasEnded(pairs[0].link.socket.number)
    }
    device.tellLosses(to: lab.onLoss)
    // Whether it was seen before or is seen now, who listens can ask.
    #expect(device.linkCount == 0)
  }

  @Test("links of which nobody kept a duplicate are believed until the driver says otherwise")
  func blind() async throws {
    lab.driver.announceDeaths { _ in }
    let device = try adopt(links: 2, [])
    device.tellLosses(to: lab.onLoss)
    #expect(device.linkCount == 2 && device.sockets.isEmpty)
    lab.kernel.audit()
    #expect(lab.losses == [])
    device.driverSaysLinkDead()
    device.driverSaysLinkDead()
    #expect(lab.losses == [1, 0].map { LinkLoss(remaining: $0, holdsIO: true) })
    device.driverSaysLinkDead()
    #expect(lab.losses.count == 2)
  }

  @Test("those over which no read is answered are lost")
  func unreadable() async throws {
    let device = try adopt(links: 2, [], isReadable: false)
    device.tellLosses(to: lab.onLoss)
    try await eventually("they are given up") { device.linkCount == 0 }
    // The next links need not wait for announcements that nobody will hear.
    let next = try lab.pair()
    try await bind(device, [next], in: lab)
    #expect(device.linkCount == 1)
  }

  @Test("where some links can be seen and some not, a death that was seen and is announced counts once")
  func mixed() async throws {
    lab.driver.announceDeaths { _ in }
    let pairs = [try lab.pair()]
    let device = try adopt(links: 2, pairs)
    device.tellLosses(to: lab.onLoss)
    #expect(device.linkCount == 2)
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 1, holdsIO: true)])
    device.driverSaysLinkDead()
    #expect(lab.losses.count == 1 && device.linkCount == 1)
    device.driverSaysLinkDead()
    #expect(lab.losses.count == 2 && device.linkCount == 0)
  }

  @Test("the announcement may come before the end is seen")
  func announcedFirst() async throws {
    lab.driver.announceDeaths { _ in }
    let pairs = [try lab.pair()]
    let device = try adopt(links: 2, pairs)
    device.tellLosses(to: lab.onLoss)
    pairs[0].end()
    device.driverSaysLinkDead()
    try await lab.waitForLosses([LinkLoss(remaining: 1, holdsIO: true)])
    #expect(device.linkCount == 1)
  }

  @Test("its links are replaced as any other's")
  func repaired() async throws {
    let pairs = [try lab.pair()]
    let device = try adopt(links: 1, pairs)
    device.tellLosses(to: lab.onLoss)
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    let next = try lab.pair()
    try await bind(device, [next], in: lab)
    #expect(lab.driver.requests.map(\.command) == [.reconfigure])
    #expect(lab.driver.holds(next.link.socket, in: 5000))
  }

  @Test("without a reconnect-timeout it holds no I/O")
  func notHeld() async throws {
    lab.driver.addConnected(5000, backend: "nbdattach:data")
    let record = lab.record(links: 1, reconnectTimeout: .zero)
    try lab.driver.addNode(5000)
    let device = NetlinkDevice(adopting: record, sockets: [], kernel: lab.kernel)
    device.tellLosses(to: lab.onLoss)
    device.driverSaysLinkDead()
    #expect(lab.losses == [LinkLoss(remaining: 0, holdsIO: false)])
  }
}
