import ForgetfulServer
import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel
import Testing

@testable import Relay

@Suite("The kernel's side", .timeLimit(.minutes(2)))
struct KernelSideTests {
  @Test("the kernel's goodbye is told, and the relay can still drain")
  func disconnect() async throws {
    let lab = try await RelayLab.attached()
    #expect(try lab.kernel.ask(.write, at: 0, pattern(512, 1)).error == nil)
    try lab.kernel.sendBytes(Request(.disconnect, cookie: 0).bytes)
    await lab.events.wait { $0.contains(.kernelEnded(disconnectRequested: true, problem: nil)) }
    #expect(await lab.relay.drain(within: .seconds(20)))
    #expect(lab.server.unsafeBlockCount == 0)
    await lab.end()
  }

  @Test("a new socket for the kernel: acknowledged writes are still known, what was in flight is asked again")
  func remade() async throws {
    let lab = try await RelayLab.attached()
    let data = pattern(4096, 1)
    #expect(try lab.kernel.ask(.write, at: 0, data).error == nil)
    lab.server.behave { $0.treat = { _ in .hold } }
    try lab.kernel.send(.write, at: 8192, data)
    try await lab.server.wait { $0.held == 1 }
    Socket.shutDown(lab.kernel.socket.number)
    await lab.events.wait { $0.contains(.kernelEnded(disconnectRequested: false, problem: nil)) }
    try lab.remakeKernelEnd()
    lab.server.behave { $0.treat = { _ in .serve } }
    lab.server.finishHeld()
    #expect(try lab.kernel.ask(.write, at: 8192, pattern(4096, 2)).error == nil)
    lab.server.crash()
    await lab.events.waitForLosses(1)
    try await lab.restartServer()
    #expect(try lab.kernel.ask(.read, at: 0, length: 4096).data == data)
    #expect(try lab.kernel.ask(.read, at: 8192, length: 4096).data == pattern(4096, 2))
    await lab.end()
  }

  @Test("a socket that is replaced while its kernel still has it is closed")
  func replacedAlive() async throws {
    let lab = try await RelayLab.attached()
    let old = lab.kernel
    try lab.remakeKernelEnd()
    try old.waitForEnd()
    #expect(try lab.kernel.ask(.flush).error == nil)
    await lab.end()
  }

  @Test(
    "what no kernel sends ends the kernel's side, and nothing else",
    arguments: [
      [UInt8](repeating: 0xff, count: 28),
      Request(.write, cookie: 1, offset: 0, length: 33 << 20).bytes,
      Request(.write, cookie: 1, offset: 0, length: .max).bytes,
      Request(.read, cookie: 1, offset: 0, length: .max).bytes,
      Request(.read, cookie: 1, length: 512).bytes + Request(.read, cookie: 1, length: 512).bytes,
    ])
  func garbage(bytes: [UInt8]) async throws {
    let lab = try await RelayLab.attached()
    lab.server.behave { $0.treat = { _ in .hold } }
    try lab.kernel.sendBytes(bytes)
    try lab.kernel.waitForEnd()
    await lab.events.wait { events in
      events.contains { if case .kernelEnded(false, .some) = $0 { true } else { false } }
    }
    lab.server.behave { $0.treat = { _ in .serve } }
    try lab.remakeKernelEnd()
    #expect(try lab.kernel.ask(.read, at: 0, length: 512).error == nil)
    #expect(lab.events.all.losses.isEmpty)
    await lab.end()
  }

  @Test("a request past the end, of no length, or of an unknown kind is the server's to refuse")
  func oddRequests() async throws {
    let lab = try await RelayLab.attached()
    #expect(try lab.kernel.ask(.read, at: .max - 100, length: 512).error != nil)
    #expect(try lab.kernel.ask(.trim, at: .max, length: Int(UInt32.max)).error != nil)
    #expect(try lab.kernel.ask(CommandCode(rawValue: 99)).error != nil)
    #expect(try lab.kernel.ask(.read, at: 0, length: 512).error == nil)
    await lab.end()
  }

  @Test("a kernel that does not read holds the servers back, and loses nothing")
  func backPressure() async throws {
    let lab = try await RelayLab.attached(size: 8 << 20, links: 3)
    let kernel = lab.kernel
    #expect(try kernel.ask(.write, at: 0, pattern(8 << 20, 1)).error == nil)
    for index in 0..<96 { try kernel.send(.read, at: UInt64(index % 64) * 131072, length: 131072) }
    // All of it can't stand in sockets and buffers: whoever comes first must wait for the kernel.
    try await lab.server.received(count: 60, of: .read)
    let image = pattern(8 << 20, 1)
    var answered = 0
    while !kernel.outstanding.isEmpty {
      let expected = kernel.outstanding
      let reply = try kernel.receive()
      let start = Int(expected[reply.cookie]?.offset ?? 0)
      #expect(reply.data[...] == image[start..<start + 131072])
      answered += 1
    }
    #expect(answered == 96)
    await lab.end()
  }

  @Test("replies that waited for room towards the kernel are not overwritten by those that came after")
  func fullOutput() async throws {
    let lab = try RelayLab()
    let kernel = lab.kernel
    func join(maximumPayload: UInt32) async throws -> FakeKernel {
      let (ours, theirs) = try KernelSocket.makePair()
      await lab.relay.add([
        RelayLink(PlainTransport(ours), ServerLimits(maximumPayload: maximumPayload, canMultiConn: true))
      ])
      return FakeKernel(theirs)
    }
    func reply(to request: Request) -> [UInt8] {
      SimpleReply(error: nil, cookie: request.cookie).bytes + pattern(Int(request.length), Int(request.offset))
    }

    // The kernel's socket is full, and what comes next goes out on another link.
    let first = try await join(maximumPayload: 32 << 20)
    for index in 0..<10 { try kernel.send(.read, at: UInt64(index) * 32768, length: 32768) }
    let last = try kernel.send(.read, at: 0, length: 8 << 20)
    let large = try (0..<11).map { _ in try first.takeRequest() }
    try first.sendBytes(large[..<10].flatMap(reply))

    // Requests that fail in parts take all the room there is for answers, and the replies behind them wait.
    let second = try await join(maximumPayload: 512)
    // One after the other: what does not fit one batch goes out on the other link.
    var parts: [Request] = []
    var small: [Request] = []
    for index in 0..<128 {
      try kernel.send(.read, at: UInt64(index) * 1024, length: 1024)
      for _ in 0..<2 { parts.append(try second.takeRequest()) }
    }
    for index in 0..<110 {
      try kernel.send(.read, at: UInt64(index) * 512, length: 512)
      small.append(try second.takeRequest())
    }
    let failures = parts.flatMap { SimpleReply(error: .inputOutput, cookie: $0.cookie).bytes }
    try second.sendBytes(failures + small[..<50].flatMap(reply))
    while lab.relay.snapshot().reads.errors < 128 { try await Task.sleep(for: .milliseconds(1)) }
    try second.sendBytes(small[50...].flatMap(reply))

    while kernel.outstanding.count > 1 {
      let asked = kernel.outstanding
      let reply = try kernel.receive()
      guard reply.error == nil, let request = asked[reply.cookie] else { continue }
      let isRight = reply.data == pattern(Int(request.length), Int(request.offset))
      #expect(isRight, "the reply to the read at \(request.offset)")
    }
    #expect(kernel.outstanding[last] != nil)
    await lab.end()
  }

  @Test("more requests than are taken at a time wait in the socket, also while there is no server")
  func flood() async throws {
    let lab = try RelayLab()
    for index in 0..<480 { try lab.kernel.send(.read, at: UInt64(index) * 512, length: 512) }
    try await lab.addLinks()
    while !lab.kernel.outstanding.isEmpty { #expect(try lab.kernel.receive().error == nil) }
    #expect(lab.relay.snapshot().reads.count == 480)
    await lab.end()
  }

  @Test("while I/O is held little is taken from the kernel, and all of it goes on with the next server")
  func heldMemory() async throws {
    let lab = try await RelayLab.attached(size: 32 << 20)
    lab.server.crash()
    await lab.events.waitForLosses(1)
    var patience = timeval(tv_sec: 0, tv_usec: 300_000)
    let number = lab.kernel.socket.number
    setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    // The kernel's own queue has room for as much, and no device holds it twice.
    var sent = 0
    var count = 0
    let image = pattern(131_072, 1)
    var rest: ArraySlice<UInt8> = []
    while count < 200 {
      let request = Request(.write, cookie: UInt64(count), offset: UInt64(count) * 131_072, length: 131_072)
      lab.kernel.expect(request)
      rest = (request.bytes + image)[...]
      while !rest.isEmpty {
        let taken = rest.withUnsafeBytes { Glibc.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
        guard taken > 0 else { break }
        rest = rest.dropFirst(taken)
        sent += taken
      }
      count += 1
      guard rest.isEmpty else { break }
    }
    #expect(!rest.isEmpty && sent < 6 << 20)
    patience.tv_sec = 20
    setsockopt(number, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    try await lab.restartServer()
    try lab.kernel.sendBytes(Array(rest))
    while !lab.kernel.outstanding.isEmpty { #expect(try lab.kernel.receive().error == nil) }
    let written = try lab.kernel.ask(.read, at: UInt64(count - 1) * 131_072, length: 131_072).data
    let isRight = written == image
    #expect(isRight)
    await lab.end()
  }

  @Test("the log stays within its limit by flushes of our own, and without a limit nothing is kept")
  func logLimit() async throws {
    let lab = try await RelayLab.attached(size: 4 << 20, RelaySettings(unflushedLimit: 1 << 20))
    var load = ModelLoad(size: 4 << 20, seed: 8)
    load.longest = 65536
    try load.run(500, depth: 16, on: lab.kernel)
    #expect(lab.relay.snapshot().unflushedBytes <= 1 << 20)
    #expect(lab.server.facts.receivedByCommand[.flush, default: 0] > load.counts[.flush, default: 0])
    await lab.end()

    let forgetting = try await RelayLab.attached(RelaySettings(unflushedLimit: 0))
    #expect(try forgetting.kernel.ask(.write, at: 0, pattern(4096, 1)).error == nil)
    #expect(forgetting.relay.snapshot().unflushedBytes == 0)
    await forgetting.end()
  }

  @Test("memory is given back when all is quiet")
  func memory() async throws {
    let lab = try await RelayLab.attached(size: 8 << 20)
    #expect(try lab.kernel.ask(.write, at: 0, pattern(8 << 20, 1)).error == nil)
    #expect(try lab.kernel.ask(.read, at: 0, length: 8 << 20).error == nil)
    #expect(try lab.kernel.ask(.flush).error == nil)
    while lab.relay.snapshot().memory == 0 { try await Task.sleep(for: .milliseconds(50)) }
    while lab.relay.snapshot().memory > 0 { try await Task.sleep(for: .milliseconds(50)) }
    #expect(try lab.kernel.ask(.read, at: 0, length: 512).error == nil)
    await lab.end()
  }
}
