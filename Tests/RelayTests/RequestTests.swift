import ForgetfulServer
import LinuxKernel
import NBDProtocol
import RelayModel
import Testing

@testable import Relay

@Suite("Requests through the relay", .timeLimit(.minutes(2)))
struct RequestTests {
  @Test("each kind of request reaches the server, and its answer the kernel")
  func kinds() async throws {
    let lab = try await RelayLab.attached()
    let kernel = lab.kernel
    let data = pattern(8192, 1)
    #expect(try kernel.ask(.write, at: 4096, data).error == nil)
    #expect(try kernel.ask(.read, at: 4096, length: 8192).data == data)
    #expect(try kernel.ask(.write, flags: .fua, at: 65536, data).error == nil)
    #expect(Array(lab.server.durable[65536..<65536 + 8192]) == data)
    #expect(try kernel.ask(.flush).error == nil)
    #expect(Array(lab.server.durable[4096..<4096 + 8192]) == data)
    #expect(try kernel.ask(.trim, at: 4096, length: 4096).error == nil)
    #expect(try kernel.ask(.writeZeroes, flags: .noHole, at: 8192, length: 4096).error == nil)
    #expect(try kernel.ask(.read, at: 8192, length: 4096).data == [UInt8](repeating: 0, count: 4096))
    #expect(lab.server.facts.violations.isEmpty)
    await lab.end()
    #expect(lab.server.requests.count == 7)
  }

  @Test("a server's error is the kernel's, and a later request goes on")
  func errors() async throws {
    let lab = try await RelayLab.attached()
    lab.server.behave { $0.refuse(.write, in: 0..<4096, with: .noSpace) }
    #expect(try lab.kernel.ask(.write, at: 0, pattern(512, 1)).error == .noSpace)
    #expect(try lab.kernel.ask(.read, at: 0, length: 512).data == [UInt8](repeating: 0, count: 512))
    let statistics = lab.relay.snapshot()
    #expect(statistics.writes.count == 1 && statistics.writes.errors == 1 && statistics.writes.bytes == 0)
    await lab.end()
  }

  @Test("many requests of chance, many at a time, on one link and on several, agree with a model", arguments: [1, 4])
  func model(links: Int) async throws {
    let lab = try await RelayLab.attached(links: links)
    lab.server.behave { $0.reorders = true }
    var load = ModelLoad(size: 1 << 20, seed: UInt64(links))
    try load.run(3000, depth: 32, on: lab.kernel)
    #expect(load.mismatches.isEmpty)
    #expect(try lab.kernel.ask(.read, at: 0, length: 1 << 20).data == load.image)
    #expect(lab.server.facts.violations.isEmpty)
    let statistics = lab.relay.snapshot()
    #expect(statistics.reads.count == UInt64(load.counts[.read, default: 0] + 1))
    #expect(statistics.writes.count == UInt64(load.counts[.write, default: 0]))
    #expect(statistics.flushes.count == UInt64(load.counts[.flush, default: 0]))
    #expect(statistics.latency.reduce(0, +) == 3001)
    #expect(statistics.queueDepth == 0 && statistics.links == links)
    await lab.end()
    try await lab.server.wait { $0.disconnected == links }
  }

  @Test("a write of 32 MiB, and the read of it, pass whole")
  func largest() async throws {
    let size = 32 << 20
    let lab = try await RelayLab.attached(size: size)
    let data = pattern(size, 3)
    #expect(try lab.kernel.ask(.write, at: 0, data).error == nil)
    #expect(try lab.kernel.ask(.read, at: 0, length: size).data == data)
    await lab.end()
  }

  @Test("what is longer than the server takes goes out in parts, and comes back whole")
  func split() async throws {
    let lab = try RelayLab()
    lab.server.behave { $0.reorders = true }
    let data = pattern(300_032, 5)
    // Taken while nobody knows what the server takes.
    try lab.kernel.send(.write, at: 512, data)
    while lab.relay.snapshot().queueDepth == 0 { try await Task.sleep(for: .milliseconds(1)) }
    try await lab.addLinks(2, maximumPayload: 65536)
    #expect(try lab.kernel.receive().error == nil)
    #expect(try lab.kernel.ask(.read, at: 512, length: data.count).data == data)
    let longest = lab.server.requests.map(\.request.length).max()
    #expect(longest == 65536)
    #expect(lab.relay.snapshot().split == 2)
    lab.server.behave { $0.refuse(.read, in: 131072..<131073, with: .inputOutput) }
    #expect(try lab.kernel.ask(.read, at: 512, length: data.count).error == .inputOutput)
    await lab.end()
  }

  @Test("writes of all sizes at a time fill segment after segment, each byte in its place")
  func segments() async throws {
    let size = 16 << 20
    let lab = try await RelayLab.attached(size: size)
    let kernel = lab.kernel
    var image = [UInt8](repeating: 0, count: size)
    var chance = SeededRandom(seed: 9)
    var offset = 0
    var sent = 0
    while offset < size {
      let count = min([512, 4096, 65536, 131072, 700_416, 3 << 20].randomElement(using: &chance) ?? 512, size - offset)
      let data = pattern(count, offset)
      image.replaceSubrange(offset..<offset + count, with: data)
      try kernel.send(.write, at: UInt64(offset), data)
      offset += count
      sent += 1
      if sent % 16 == 0 { while !kernel.outstanding.isEmpty { #expect(try kernel.receive().error == nil) } }
    }
    while !kernel.outstanding.isEmpty { #expect(try kernel.receive().error == nil) }
    #expect(lab.server.visible == image)
    await lab.end()
  }

  @Test("requests and replies that arrive byte by byte are taken")
  func dribble() async throws {
    let lab = try RelayLab()
    let (ours, theirs) = try KernelSocket.makePair()
    let dribbler = try Dribbler(from: try lab.server.connect(), to: theirs)
    await lab.relay.add([RelayLink(PlainTransport(ours), ServerLimits())])
    var load = ModelLoad(size: 16384, seed: 4)
    load.longest = 2048
    let kernel = lab.kernel
    for _ in 0..<20 {
      let (request, payload) = load.next()
      let sent = Request(request.command, cookie: request.cookie, offset: request.offset, length: request.length)
      for byte in sent.bytes + payload { try kernel.sendBytes([byte]) }
      kernel.expect(sent)
      load.check(try kernel.receive())
    }
    #expect(load.mismatches.isEmpty)
    await lab.end()
    dribbler.stop()
  }
}
