import ForgetfulServer
import LinuxKernel
import NBDProtocol
import RelayModel

@testable import Relay

/// A relay between a kernel of a test and a server that forgets.
final class RelayLab {
  let server: ForgetfulServer
  let relay: Relay
  let events = EventLog()
  private(set) var kernel: FakeKernel

  init(size: Int = 1 << 20, seed: UInt64 = 1, _ settings: RelaySettings = RelaySettings()) throws {
    server = try ForgetfulServer(size: size, seed: seed)
    let events = events
    relay = try Relay(name: "test", settings) { events.append($0) }
    kernel = FakeKernel(try relay.makeKernelEnd())
  }

  /// A lab with `links` links to its server.
  static func attached(
    size: Int = 1 << 20, seed: UInt64 = 1, links: Int = 1, _ settings: RelaySettings = RelaySettings()
  ) async throws -> RelayLab {
    let lab = try RelayLab(size: size, seed: seed, settings)
    try await lab.addLinks(links)
    return lab
  }

  @discardableResult
  func addLinks(
    _ count: Int = 1, to other: ForgetfulServer? = nil, maximumPayload: UInt32 = 32 << 20
  ) async throws -> [LinkID] {
    try await relay.add((0..<count).map { _ in try link(to: other, maximumPayload: maximumPayload) })
  }

  func link(to other: ForgetfulServer? = nil, maximumPayload: UInt32 = 32 << 20) throws -> RelayLink {
    RelayLink(
      PlainTransport(try (other ?? server).connect()),
      ServerLimits(maximumPayload: maximumPayload, canFlush: true, canFUA: true, canMultiConn: true))
  }

  /// As after a reconnection: the server is there again, and one link to it.
  func restartServer() async throws {
    try server.restart()
    try await addLinks()
  }

  /// The kernel's socket is replaced.
  func remakeKernelEnd() throws { kernel = FakeKernel(try relay.makeKernelEnd()) }

  func end() async { await relay.end() }
}

/// Bytes that tell one write from another.
func pattern(_ count: Int, _ seed: Int) -> [UInt8] {
  var chance = SeededRandom(seed: UInt64(truncatingIfNeeded: seed))
  var bytes: [UInt8] = []
  bytes.reserveCapacity(count + 8)
  while bytes.count < count { withUnsafeBytes(of: chance.next()) { bytes.append(contentsOf: $0) } }
  bytes.removeLast(bytes.count - count)
  return bytes
}
