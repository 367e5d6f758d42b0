import ForgetfulServer
import LinuxKernel
import NBDProtocol
import RelayModel
import Synchronization
import Testing

@testable import Relay

@Suite("A server that crashes", .timeLimit(.minutes(5)))
struct CrashTests {
  /// Crashes at random requests, each time with another part of what is not flushed surviving.
  @Test("2000 crashes under load: no acknowledged byte is lost", arguments: [1, 3])
  func crashes(links: Int) async throws {
    var crashes = 0
    let seeds = (UInt64(links) << 32)..<(UInt64(links) << 32) + Self.mostRuns
    for seed in seeds where crashes < 1000 {
      crashes += try await crashRun(seed: seed, links: links)
    }
    #expect(crashes >= 1000)
  }

  /// Four times what is needed: a run has some 14 crashes.
  private static let mostRuns: UInt64 = 300

  /// How often the server has crashed.
  private func crashRun(seed: UInt64, links: Int) async throws -> Int {
    let lab = try await RelayLab.attached(size: 65536, seed: seed, links: links)
    let fate = Mutex(SeededRandom(seed: seed))
    lab.server.behave { behaviour in
      behaviour.reorders = true
      behaviour.earlyWriteBack = 0.1
      behaviour.treat = { _ in
        fate.withLock { chance in
          guard Int.random(in: 0..<12, using: &chance) == 0 else { return .serve }
          return Bool.random(using: &chance)
            ? .crash(Treatment.CrashPoint.allCases.randomElement(using: &chance) ?? .beforeAnswer)
            : .cut(after: Int.random(in: 0..<64, using: &chance))
        }
      }
    }
    lab.server.setSurvival(Double(seed % 3) / 2)
    let repair = Task { [relay = lab.relay, server = lab.server, events = lab.events] in
      var seen = 0
      while !Task.isCancelled {
        let before = seen
        await events.wait { $0.count > before }
        let all = events.all
        for case .linkLost(_, _, let remaining) in all[seen...] where remaining == 0 {
          try? server.restart()
          guard let sockets = try? (0..<links).map({ _ in try server.connect() }) else { continue }
          await relay.add(sockets.map { RelayLink(PlainTransport($0), ServerLimits(canMultiConn: true)) })
        }
        seen = all.count
      }
    }
    var load = ModelLoad(size: 65536, seed: seed)
    load.longest = 4096
    try load.run(120, depth: 8, on: lab.kernel)
    #expect(load.mismatches.isEmpty, "seed \(seed)")
    #expect(try lab.kernel.ask(.read, at: 0, length: 65536).data == load.image, "seed \(seed)")
    #expect(try lab.kernel.ask(.flush).error == nil)
    #expect(lab.server.durable == load.image, "seed \(seed)")
    #expect(lab.server.facts.violations.isEmpty)
    repair.cancel()
    lab.events.append(.flowing)
    await lab.end()
    return lab.server.facts.crashes
  }

  @Test("a reply that is cut in its middle costs nothing, wherever it is cut")
  func cuts() async throws {
    let lab = try await RelayLab.attached()
    let data = pattern(4096, 2)
    #expect(try lab.kernel.ask(.write, at: 0, data).error == nil)
    for count in [0, 1, 15, 16, 17, 2000, 16 + 4095] {
      let losses = lab.events.all.losses.count
      let isCut = Atomic(false)
      lab.server.behave { behaviour in
        behaviour.treat = { _ in isCut.exchange(true, ordering: .relaxed) ? .serve : .cut(after: count) }
      }
      try lab.kernel.send(.read, at: 0, length: 4096)
      await lab.events.waitForLosses(losses + 1)
      try await lab.addLinks()
      #expect(try lab.kernel.receive().data == data)
    }
    await lab.end()
  }

  @Test("the log is not replayed to a server that never went away from the other links")
  func oneOfSeveral() async throws {
    let lab = try await RelayLab.attached(links: 4)
    var load = ModelLoad(size: 1 << 20, seed: 11)
    for connection in 0..<3 {
      try load.run(200, depth: 16, on: lab.kernel)
      lab.server.drop(connection: connection)
      await lab.events.waitForLosses(connection + 1)
    }
    try load.run(200, depth: 16, on: lab.kernel)
    #expect(load.mismatches.isEmpty)
    #expect(lab.relay.linkCount == 1)
    #expect(lab.relay.snapshot().replayed == 0)
    #expect(lab.relay.snapshot().linksLost == 3)
    #expect(try lab.kernel.ask(.read, at: 0, length: 1 << 20).data == load.image)
    await lab.end()
  }

  @Test("acknowledged writes are replayed, and statistics say so")
  func replay() async throws {
    let lab = try await RelayLab.attached()
    for index in 0..<8 {
      #expect(try lab.kernel.ask(.write, at: UInt64(index) * 4096, pattern(4096, index)).error == nil)
    }
    #expect(lab.relay.snapshot().unflushedEntries == 8)
    lab.server.crash()
    await lab.events.waitForLosses(1)
    #expect(lab.relay.linkCount == 0)
    try lab.kernel.send(.read, at: 4096, length: 4096)
    try await lab.restartServer()
    #expect(try lab.kernel.receive().data == pattern(4096, 1))
    let statistics = lab.relay.snapshot()
    #expect(statistics.replayed == 8 && statistics.replayedBytes == 32768)
    #expect(statistics.heldNanoseconds > 0)
    #expect(lab.events.all.contains(.recovered(resent: 0, replayed: 8, replayedBytes: 32768)))
    await lab.end()
  }

  @Test("a refused replay is told with its place, and the next FLUSH fails once")
  func refusedReplay() async throws {
    let lab = try await RelayLab.attached()
    #expect(try lab.kernel.ask(.write, at: 8192, pattern(512, 1)).error == nil)
    lab.server.crash()
    await lab.events.waitForLosses(1)
    lab.server.behave { $0.refuse(.write, in: 8192..<8704, with: .noSpace) }
    try await lab.restartServer()
    #expect(try lab.kernel.ask(.flush).error == .inputOutput)
    #expect(try lab.kernel.ask(.flush).error == nil)
    #expect(lab.events.all.contains(.dataLost(LostRange(offset: 8192, length: 512, error: ErrorCode.noSpace.rawValue))))
    await lab.end()
  }

  @Test("what is refused is told although the relay ends meanwhile")
  func refusedAtTheEnd() async throws {
    let lab = try await RelayLab.attached()
    for index in 0..<2 {
      #expect(try lab.kernel.ask(.write, at: UInt64(index) * 4096, pattern(4096, index)).error == nil)
    }
    lab.server.crash()
    await lab.events.waitForLosses(1)
    lab.server.behave { behaviour in
      behaviour.treat = { $0.request.offset == 0 ? .refuse(.noSpace) : .hold }
    }
    try await lab.restartServer()
    try await lab.server.wait { $0.held == 1 }
    await lab.end()
    #expect(lab.events.all.contains(.dataLost(LostRange(offset: 0, length: 4096, error: ErrorCode.noSpace.rawValue))))
  }

  @Test("a server that shuts down is a lost link, never an error of the kernel")
  func shutdown() async throws {
    let lab = try await RelayLab.attached()
    lab.server.behave { $0.refuseEverything() }
    for index in 0..<4 { try lab.kernel.send(.write, at: UInt64(index) * 512, pattern(512, index)) }
    await lab.events.waitForLosses(1)
    #expect(lab.events.all.losses == [.shuttingDown])
    lab.server.behave { $0.treat = { _ in .serve } }
    try await lab.addLinks()
    for _ in 0..<4 { #expect(try lab.kernel.receive().error == nil) }
    await lab.end()
  }
}
