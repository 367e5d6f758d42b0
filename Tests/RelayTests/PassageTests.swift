import ForgetfulServer
import LinuxKernel
import NBDProtocol
import RelayModel
import Testing

@testable import Relay

@Suite("Long replies, which go to the kernel without being copied", .timeLimit(.minutes(2)))
struct PassageTests {
  /// A lab whose server is the test: what the relay asks is taken from the other end.
  private func labWithServer() async throws -> (RelayLab, FakeKernel) {
    let lab = try RelayLab()
    let (ours, theirs) = try KernelSocket.makePair()
    await lab.relay.add([RelayLink(PlainTransport(ours), ServerLimits(canMultiConn: true))])
    return (lab, FakeKernel(theirs))
  }

  private func reply(to request: Request, _ data: [UInt8]) -> [UInt8] {
    SimpleReply(error: nil, cookie: request.cookie).bytes + data
  }

  @Test("long and short reads and writes, one after the other and beside each other, over several links")
  func mixed() async throws {
    let lab = try await RelayLab.attached(size: 4 << 20, links: 3)
    lab.server.behave { $0.reorders = true }
    var load = ModelLoad(size: 4 << 20, seed: 11)
    load.longest = 300_032
    try load.run(400, depth: 8, on: lab.kernel)
    #expect(load.mismatches.isEmpty)
    #expect(lab.server.facts.violations.isEmpty)
    #expect(lab.events.all.losses.isEmpty)
    await lab.end()
  }

  @Test("a link that is lost in the middle of a long reply leaves nothing of it with the kernel")
  func cut() async throws {
    let lab = try await RelayLab.attached()
    let data = pattern(131_072, 1)
    #expect(try lab.kernel.ask(.write, at: 0, data).error == nil)
    for cut in [16, 17, 40_000, 131_087] {
      lab.server.behave { $0.treat = { $0.request.command == .read ? .cut(after: cut) : .serve } }
      let losses = lab.events.all.losses.count
      try lab.kernel.send(.read, at: 0, length: 131_072)
      await lab.events.waitForLosses(losses + 1)
      #expect(!lab.kernel.hasReply)
      lab.server.behave { $0.treat = { _ in .serve } }
      try await lab.addLinks()
      let isRight = try lab.kernel.receive().data == data
      #expect(isRight)
    }
    await lab.end()
  }

  @Test("one that comes in more pieces than the pipe has places is copied, and so are those after it")
  func pieces() async throws {
    let (lab, server) = try await labWithServer()
    let data = pattern(65536, 1)
    for round in 0..<3 {
      try lab.kernel.send(.read, at: 0, length: data.count)
      let request = try server.takeRequest()
      let bytes = reply(to: request, data)
      // Each send is a piece of its own.
      try server.sendBytes(Array(bytes[..<16]))
      if round == 0 { for byte in bytes[16..<1000] { try server.sendBytes([byte]) } }
      try server.sendBytes(Array(bytes[(round == 0 ? 1000 : 16)...]))
      let isRight = try lab.kernel.receive().data == data
      #expect(isRight)
    }
    await lab.end()
  }

  @Test("one that nobody waits for any more is dropped, and the stream goes on behind it")
  func unwanted() async throws {
    let (lab, server) = try await labWithServer()
    let data = pattern(65536, 1)
    try lab.kernel.send(.read, at: 0, length: data.count)
    let bytes = reply(to: try server.takeRequest(), data)
    try server.sendBytes(Array(bytes[..<30_000]))
    Socket.shutDown(lab.kernel.socket.number)
    await lab.events.wait { $0.contains(.kernelEnded(disconnectRequested: false, problem: nil)) }
    try lab.remakeKernelEnd()
    try server.sendBytes(Array(bytes[30_000...]))
    for round in 2...3 {
      let next = pattern(65536, round)
      try lab.kernel.send(.read, at: 65536, length: next.count)
      try server.sendBytes(reply(to: try server.takeRequest(), next))
      let isRight = try lab.kernel.receive().data == next
      #expect(isRight)
    }
    await lab.end()
  }

  @Test("a kernel's socket that is replaced while a long reply waits for the old one gets only what it asks for")
  func replaced() async throws {
    let (lab, server) = try await labWithServer()
    let data = pattern(131_072, 1)
    for index in 0..<4 { try lab.kernel.send(.read, at: UInt64(index) * 131_072, length: data.count) }
    // The first are on their way when the kernel, which reads nothing, is full.
    for _ in 0..<4 {
      let request = try server.takeRequest()
      guard request.offset < 3 * 131_072 else { continue }
      try server.sendBytes(reply(to: request, data))
    }
    while lab.relay.snapshot().reads.count < 2 { try await Task.sleep(for: .milliseconds(1)) }
    try lab.remakeKernelEnd()
    let other = pattern(4096, 2)
    try lab.kernel.send(.read, at: 0, length: 4096)
    try server.sendBytes(reply(to: try server.takeRequest(), other))
    let first = try lab.kernel.receive()
    #expect(first.data == other)
    await lab.end()
  }
}
