import ForgetfulServer
import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel
import Synchronization
import Testing

@testable import Relay

/// One relay after the other for the same kernel and the same server, which forgets what it has not flushed.
@Suite("A relay that inherits", .timeLimit(.minutes(5)))
struct HandOverTests {
  /// A relay's life in one of the processes.
  private struct Process {
    let relay: Relay
    let events = EventLog()
    let kernel: FakeKernel

    init(
      inheriting legacy: Legacy? = nil, after former: FormerLinks? = nil, _ settings: RelaySettings = RelaySettings()
    ) throws {
      let events = events
      relay = try Relay(name: "test", settings, inheriting: legacy, after: former) { events.append($0) }
      kernel = FakeKernel(try relay.makeKernelEnd())
    }

    /// A duplicate of its socket, as the service manager has one.
    @discardableResult
    func addLink(to server: ForgetfulServer) async throws -> OpenFile {
      let socket = try server.connect()
      await relay.add([
        RelayLink(PlainTransport(socket), ServerLimits(canFlush: true, canFUA: true, canMultiConn: true))
      ])
      return try #require(OpenFile.duplicating(socket.number))
    }

    /// What the next process gets, through a duplicate and from the bytes alone.
    func handOver() async throws -> Legacy? {
      guard case .legacy(let legacy) = await relay.end(leavingFor: "nbdattach:test") else { return nil }
      return try Legacy(reading: try #require(OpenFile.duplicating(legacy.file.number)), of: "nbdattach:test")
    }
  }

  private func isSpent(_ legacy: Legacy) -> Bool { Legacy.isSpent(legacy.file) }

  @Test("in an outage: what was acknowledged goes to the server that has forgotten it, before what is sent again")
  func outage() async throws {
    let server = try ForgetfulServer(size: 1 << 20)
    let first = try Process()
    try await first.addLink(to: server)
    for index in 0..<8 {
      let flags: CommandFlags = index == 3 ? .fua : []
      #expect(try first.kernel.ask(.write, flags: flags, at: UInt64(index) * 4096, pattern(4096, index)).error == nil)
    }
    #expect(try first.kernel.ask(.write, at: 4096, pattern(512, 99)).error == nil)
    #expect(try first.kernel.ask(.writeZeroes, at: 2 * 4096, length: 4096).error == nil)
    server.crash()
    await first.events.waitForLosses(1)
    // Nobody answers it; the kernel sends it again to the next process.
    try first.kernel.send(.write, at: 0, pattern(512, 7))
    let legacy = try #require(try await first.handOver())
    #expect(legacy.count == 10 && legacy.bytes == 8 * 4096 + 512)

    try server.restart()
    let second = try Process(inheriting: legacy)
    try second.kernel.send(.write, at: 0, pattern(512, 7))
    try second.kernel.send(.read, at: 0, length: 8 * 4096)
    try await second.addLink(to: server)
    _ = try second.kernel.receive()
    var expected = (0..<8).flatMap { pattern(4096, $0) }
    expected.replaceSubrange(0..<512, with: pattern(512, 7))
    expected.replaceSubrange(4096..<4608, with: pattern(512, 99))
    expected.replaceSubrange(8192..<12288, with: [UInt8](repeating: 0, count: 4096))
    _ = try second.kernel.receive()
    #expect(try second.kernel.ask(.read, at: 0, length: 8 * 4096).data == expected)
    #expect(isSpent(legacy))
    #expect(try second.kernel.ask(.flush).error == nil)
    #expect(Array(server.durable[..<expected.count]) == expected)
    #expect(second.events.all.contains(.recovered(resent: 0, replayed: 10, replayedBytes: 8 * 4096 + 512)))
    #expect(server.facts.violations.isEmpty)
    await second.relay.end()
  }

  @Test("a second hand-over in the same outage, and a third: the file goes on as it is, until a request has gone out")
  func severalInOneOutage() async throws {
    let server = try ForgetfulServer(size: 65536)
    let first = try Process()
    try await first.addLink(to: server)
    #expect(try first.kernel.ask(.write, at: 512, pattern(512, 1)).error == nil)
    server.crash()
    await first.events.waitForLosses(1)
    let legacy = try #require(try await first.handOver())
    // Never had a link, though the kernel waits for one.
    let second = try Process(inheriting: legacy)
    try second.kernel.send(.read, at: 512, length: 512)
    while second.relay.snapshot().queueDepth == 0 { try await Task.sleep(for: .milliseconds(1)) }
    guard case .inheritance = await second.relay.end(leavingFor: "nbdattach:test") else {
      Issue.record("the second process leaves another legacy")
      return
    }
    #expect(!isSpent(legacy))
    // Sends the log, and ends before the kernel has asked for anything: another crash of the server, and it must go again.
    try server.restart()
    let third = try Process(inheriting: legacy)
    try await third.addLink(to: server)
    await third.events.wait { $0.contains(.recovered(resent: 0, replayed: 1, replayedBytes: 512)) }
    #expect(!isSpent(legacy))
    guard case .inheritance = await third.relay.end(leavingFor: "nbdattach:test") else {
      Issue.record("the third process leaves another legacy")
      return
    }
    server.crash()
    try server.restart()
    let fourth = try Process(inheriting: legacy)
    try await fourth.addLink(to: server)
    #expect(try fourth.kernel.ask(.read, at: 512, length: 512).data == pattern(512, 1))
    #expect(isSpent(legacy))
    #expect(fourth.events.all.contains(.legacySpent))
    // What it has inherited and not flushed it leaves anew, with what came since.
    #expect(try fourth.kernel.ask(.write, at: 512, pattern(512, 2)).error == nil)
    let last = try #require(try await fourth.handOver())
    #expect(last.count == 2 && last.identifier != legacy.identifier)
    server.crash()
    try server.restart()
    let fifth = try Process(inheriting: last)
    try await fifth.addLink(to: server)
    #expect(try fifth.kernel.ask(.read, at: 512, length: 512).data == pattern(512, 2))
    await fifth.relay.end()
  }

  @Test("at the moment when the first request reaches the server, nobody can inherit the old log any more")
  func spentInTime() async throws {
    let server = try ForgetfulServer(size: 65536)
    let first = try Process()
    try await first.addLink(to: server)
    #expect(try first.kernel.ask(.write, at: 0, pattern(512, 1)).error == nil)
    let legacy = try #require(try await first.handOver())
    let wasSpent = Mutex<Bool?>(nil)
    server.behave { behaviour in
      behaviour.treat = { received in
        if received.request.offset == 512 { wasSpent.withLock { $0 = Legacy.isSpent(legacy.file) } }
        return .serve
      }
    }
    let second = try Process(inheriting: legacy)
    try second.kernel.send(.write, at: 512, pattern(512, 2))
    try await second.addLink(to: server)
    #expect(try second.kernel.receive().error == nil)
    #expect(wasSpent.withLock { $0 } == true)
    await second.relay.end()
  }

  @Test("what has been flushed leaves nothing, and gives the memory back though the kernel asks for nothing")
  func flushed() async throws {
    let server = try ForgetfulServer(size: 65536)
    let first = try Process()
    try await first.addLink(to: server)
    #expect(try first.kernel.ask(.write, at: 0, pattern(512, 1)).error == nil)
    let legacy = try #require(try await first.handOver())
    let second = try Process(inheriting: legacy)
    try await second.addLink(to: server)
    #expect(await second.relay.drain(within: .seconds(20)))
    await second.events.wait { $0.contains(.legacySpent) }
    #expect(isSpent(legacy))
    guard case .nothing = await second.relay.end(leavingFor: "nbdattach:test") else {
      Issue.record("something is left")
      return
    }
    #expect(Array(server.durable[..<512]) == pattern(512, 1))
  }

  @Test("an error that the kernel has not been told is told by the next process's FLUSH, and by a FUA, once each")
  func owedError() async throws {
    let server = try ForgetfulServer(size: 65536)
    let first = try Process()
    try await first.addLink(to: server)
    #expect(try first.kernel.ask(.write, at: 8192, pattern(512, 1)).error == nil)
    server.crash()
    await first.events.waitForLosses(1)
    server.behave { $0.refuse(.write, in: 8192..<8704, with: .noSpace) }
    try server.restart()
    try await first.addLink(to: server)
    await first.events.wait { events in
      events.contains { if case .dataLost = $0 { true } else { false } }
    }
    #expect(await first.relay.drain(within: .seconds(20)))
    let legacy = try #require(try await first.handOver())
    #expect(legacy.count == 0 && legacy.errors == OwedErrors(toFlush: true, toFUA: true))
    let second = try Process(inheriting: legacy)
    try await second.addLink(to: server)
    #expect(try second.kernel.ask(.flush).error == .inputOutput)
    #expect(try second.kernel.ask(.flush).error == nil)
    #expect(try second.kernel.ask(.write, flags: .fua, at: 0, pattern(512, 2)).error == .inputOutput)
    #expect(try second.kernel.ask(.write, flags: .fua, at: 0, pattern(512, 2)).error == nil)
    #expect(isSpent(legacy))
    guard case .nothing = await second.relay.end(leavingFor: "nbdattach:test") else {
      Issue.record("the error is owed still")
      return
    }
  }

  @Test("a log of many megabytes goes on in the next process, counts against its budget, and is given back")
  func large() async throws {
    let server = try ForgetfulServer(size: 32 << 20)
    let budget = RelayBudget(bytes: 256 << 20)
    let settings = RelaySettings(unflushedLimit: 64 << 20, budget: budget)
    let first = try Process(inheriting: nil, settings)
    try await first.addLink(to: server)
    let piece = 1 << 20
    for index in 0..<24 {
      #expect(try first.kernel.ask(.write, at: UInt64(index * piece), pattern(piece - 512, index)).error == nil)
    }
    let kept = first.relay.snapshot().unflushedBytes
    try #require(kept > 4 << 20)
    server.crash()
    await first.events.waitForLosses(1)
    let legacy = try #require(try await first.handOver())
    #expect(legacy.bytes == kept && budget.inUse == 0)
    let second = try Process(inheriting: legacy, settings)
    try server.restart()
    try await second.addLink(to: server)
    for index in 0..<24 {
      let data = try second.kernel.ask(.read, at: UInt64(index * piece), length: piece - 512).data
      #expect(data == pattern(piece - 512, index), "\(index)")
      if index == 0 { #expect(budget.inUse >= kept - (1 << 20)) }
    }
    #expect(try second.kernel.ask(.flush).error == nil)
    #expect(second.relay.snapshot().unflushedBytes == 0)
    await second.relay.end()
    #expect(budget.inUse == 0)
  }

  @Test("an inheritance that can't be read any more is said, and the kernel hears of it")
  func unreadable() async throws {
    let server = try ForgetfulServer(size: 65536)
    let first = try Process()
    try await first.addLink(to: server)
    #expect(try first.kernel.ask(.write, at: 0, pattern(512, 1)).error == nil)
    let legacy = try #require(try await first.handOver())
    // It was whole when it was looked at.
    try legacy.spend()
    let second = try Process(inheriting: legacy)
    await second.events.wait { events in
      events.contains { if case .legacyLost(512, _) = $0 { true } else { false } }
    }
    try await second.addLink(to: server)
    #expect(try second.kernel.ask(.flush).error == .inputOutput)
    #expect(try second.kernel.ask(.flush).error == nil)
    await second.relay.end()
  }

  @Test("a write that the server still has of a former process does not overwrite a newer one, and its log waits too")
  func lateWrite() async throws {
    let server = try ForgetfulServer(size: 1 << 20)
    server.behave { behaviour in
      behaviour.halfClose = .waits
      behaviour.treat = { $0.connection == 0 && $0.request.offset == 0 ? .hold : .serve }
    }
    let old = pattern(4096, 1)
    let new = pattern(4096, 2)
    let first = try Process()
    let socket = try await first.addLink(to: server)
    #expect(try first.kernel.ask(.write, at: 8192, old).error == nil)
    try first.kernel.send(.write, at: 0, old)
    try await server.wait { $0.held == 1 }
    let legacy = try #require(try await first.handOver())

    let second = try Process(inheriting: legacy, after: FormerLinks([socket]))
    try second.kernel.send(.write, at: 0, old)
    try second.kernel.send(.write, at: 0, new)
    try await second.addLink(to: server)
    try await server.wait { $0.halfClosed == 1 }
    #expect(!second.kernel.hasReply && server.facts.receivedByCommand[.write] == 2)
    #expect(!second.events.all.contains(.formerLinksClosed))
    await second.events.wait { $0.contains(.awaitsFormerLinks) }
    server.finishHeld()
    for _ in 0..<2 { #expect(try second.kernel.receive().error == nil) }
    #expect(try second.kernel.ask(.read, at: 0, length: 4096).data == new)
    #expect(second.events.all.filter { [.awaitsFormerLinks, .formerLinksClosed].contains($0) }.count == 2)
    #expect(server.facts.violations.isEmpty)
    await second.relay.end()
  }

  @Test(
    "former links that are closed hold nothing up; those that never are have the fence-timeout",
    arguments: [true, false])
  func fence(isClosed: Bool) async throws {
    let server = try ForgetfulServer(size: 1 << 20)
    server.behave { behaviour in
      behaviour.halfClose = .waits
      behaviour.treat = { $0.connection == 0 ? .hold : .serve }
    }
    let first = try Process()
    let socket = try await first.addLink(to: server)
    try first.kernel.send(.write, at: 0, pattern(4096, 1))
    try await server.wait { $0.held == 1 }
    await first.relay.end()
    if isClosed { server.drop(connection: 0) }
    let settings = RelaySettings(fenceTimeout: isClosed ? nil : .milliseconds(100))
    let second = try Process(after: FormerLinks([socket]), settings)
    // Also when there is no server yet.
    await second.events.wait { $0.contains(.formerLinksClosed) }
    try await second.addLink(to: server)
    #expect(try second.kernel.ask(.write, at: 0, pattern(4096, 2)).error == nil)
    await second.relay.end()
  }
}
