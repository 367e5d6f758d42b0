import ForgetfulServer
import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel
import Synchronization
import Testing

@testable import Relay

@Suite("A server that breaks the protocol", .timeLimit(.minutes(2)))
struct HostileServerTests {
  @Test(
    "a wrong reply loses the link, says how, and the request is answered by the next one",
    arguments: [
      (Treatment.wrongCookie, "the reply has a cookie that is not pending"),
      (.wrongMagic, "the reply has the wrong magic number"),
    ])
  func wrongReply(treatment: Treatment, text: String) async throws {
    let lab = try await RelayLab.attached()
    lab.server.behave { $0.treat = { _ in treatment } }
    try lab.kernel.send(.read, at: 0, length: 512)
    await lab.events.waitForLosses(1)
    #expect(lab.events.all.losses == [.violation(text)])
    lab.server.behave { $0.treat = { _ in .serve } }
    try await lab.addLinks()
    #expect(try lab.kernel.receive().data == [UInt8](repeating: 0, count: 512))
    await lab.end()
  }

  @Test("bytes of chance instead of replies never do harm")
  func noise() async throws {
    let lab = try RelayLab()
    var chance = SeededRandom(seed: 5)
    try lab.kernel.send(.read, at: 0, length: 4096)
    try lab.kernel.send(.write, at: 0, pattern(4096, 1))
    for round in 1...300 {
      let (ours, theirs) = try KernelSocket.makePair()
      await lab.relay.add([RelayLink(PlainTransport(ours), ServerLimits(canMultiConn: true))])
      let noisy = FakeKernel(theirs)
      var bytes = pattern(Int.random(in: 1...200, using: &chance), round)
      // Often the beginning is right, so that what follows is looked at.
      if round % 2 == 0 {
        bytes.replaceSubrange(0..<min(4, bytes.count), with: [0x67, 0x44, 0x66, 0x98].prefix(bytes.count))
      }
      try? noisy.sendBytes(bytes)
      Socket.shutDown(theirs.number)
      await lab.events.waitForLosses(round)
    }
    try await lab.addLinks()
    while !lab.kernel.outstanding.isEmpty { #expect(try lab.kernel.receive().error == nil) }
    await lab.end()
  }

  @Test("an answer to a write that is not sent whole leaves the rest of the stream as it was")
  func earlyAnswer() async throws {
    let lab = try RelayLab()
    let (ours, theirs) = try KernelSocket.makePair()
    await lab.relay.add([RelayLink(PlainTransport(ours), ServerLimits())])
    let server = FakeKernel(theirs)
    let first = pattern(8 << 20, 1)
    let second = pattern(4096, 2)
    try lab.kernel.send(.write, at: 0, first)
    let request = try server.takeRequest()
    // The rest of the payload is still on the relay's side.
    try server.sendBytes(SimpleReply(error: .noSpace, cookie: request.cookie).bytes)
    #expect(try lab.kernel.receive().error == .noSpace)
    try lab.kernel.send(.write, at: 0, second)
    #expect(try server.take(first.count) == first)
    let next = try server.takeRequest()
    #expect(next.length == 4096)
    #expect(try server.take(4096) == second)
    await lab.end()
  }

  @Test("a link that is given and closed at once is told as lost")
  func closed() async throws {
    let lab = try RelayLab()
    let (ours, theirs) = try KernelSocket.makePair()
    Socket.shutDown(theirs.number)
    await lab.relay.add([RelayLink(PlainTransport(ours), ServerLimits())])
    await lab.events.waitForLosses(1)
    #expect(lab.relay.linkCount == 0)
    await lab.end()
  }
}
