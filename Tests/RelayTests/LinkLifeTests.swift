import ForgetfulServer
import LinuxKernel
import NBDProtocol
import RelayModel
import Testing

@testable import Relay

@Suite("How links and servers change", .timeLimit(.minutes(2)))
struct LinkLifeTests {
  @Test("a write that lands late, after its link was superseded, does not overwrite a newer one")
  func lateWrite() async throws {
    let lab = try await RelayLab.attached(RelaySettings(requestTimeout: .seconds(1)))
    lab.server.behave { behaviour in
      behaviour.halfClose = .waits
      behaviour.treat = { $0.connection == 0 ? .hold : .serve }
    }
    let old = pattern(4096, 1)
    let new = pattern(4096, 2)
    try lab.kernel.send(.write, at: 0, old)
    await lab.events.wait { $0.contains(.silent(1)) }
    await lab.relay.supersede(1, with: [try lab.link()])
    try lab.kernel.send(.write, at: 0, new)
    // Neither write may be answered before the old link is done.
    try await lab.server.wait { $0.halfClosed == 1 }
    #expect(!lab.kernel.hasReply)
    lab.server.finishHeld()
    for _ in 0..<2 { #expect(try lab.kernel.receive().error == nil) }
    #expect(try lab.kernel.ask(.read, at: 0, length: 4096).data == new)
    await lab.events.waitForLosses(1)
    #expect(lab.events.all.losses == [.superseded])
    await lab.end()
  }

  @Test("after the fence-timeout a silent link's writes are sent elsewhere")
  func fence() async throws {
    let lab = try await RelayLab.attached(
      RelaySettings(requestTimeout: .seconds(1), fenceTimeout: .milliseconds(200)))
    lab.server.behave { behaviour in
      behaviour.halfClose = .waits
      behaviour.treat = { $0.connection == 0 ? .hold : .serve }
    }
    try lab.kernel.send(.write, at: 0, pattern(4096, 1))
    await lab.events.wait { $0.contains(.silent(1)) }
    await lab.relay.supersede(1, with: [try lab.link()])
    #expect(try lab.kernel.receive().error == nil)
    #expect(lab.events.all.losses == [.superseded])
    await lab.end()
  }

  @Test("a write that a server which shuts down still holds does not overwrite a newer one, however late it lands")
  func lateAtShutdown() async throws {
    let lab = try await RelayLab.attached()
    lab.server.behave { behaviour in
      behaviour.halfClose = .waits
      behaviour.treat = { received in
        guard received.connection == 0 else { return .serve }
        return received.request.command == .write ? .hold : .refuse(.shutdown)
      }
    }
    let old = pattern(4096, 1)
    let new = pattern(4096, 2)
    try lab.kernel.send(.write, at: 0, old)
    try lab.kernel.send(.read, at: 8192, length: 512)
    // The grace is over; another link is made while the old one is half closed.
    await lab.events.waitForLosses(1)
    try await lab.addLinks()
    try lab.kernel.send(.write, at: 0, new)
    try await lab.server.wait { $0.halfClosed == 1 }
    #expect(!lab.kernel.hasReply)
    lab.server.finishHeld()
    for _ in 0..<3 { #expect(try lab.kernel.receive().error == nil) }
    #expect(try lab.kernel.ask(.read, at: 0, length: 4096).data == new)
    try await lab.server.wait { $0.closed == 1 }
    #expect(lab.events.all.losses == [.shuttingDown])
    #expect(lab.relay.snapshot().linksLost == 1)
    await lab.end()
  }

  @Test("silence ends when the server answers in time again, and a later one is told too")
  func silenceEnds() async throws {
    let lab = try await RelayLab.attached(RelaySettings(requestTimeout: .seconds(1)))
    for round in 1...2 {
      lab.server.behave { $0.treat = { _ in .hold } }
      try lab.kernel.send(.write, at: 0, pattern(512, round))
      await lab.events.wait { $0.count(where: { $0 == .silent(1) }) == round }
      lab.server.behave { $0.treat = { _ in .serve } }
      lab.server.finishHeld()
      #expect(try lab.kernel.receive().error == nil)
      await lab.events.wait { $0.count(where: { $0 == .speaking(1) }) == round }
    }
    #expect(lab.events.all.losses.isEmpty)
    await lab.end()
  }

  @Test("servers change under load, and no request fails")
  func replaceAll() async throws {
    let lab = try await RelayLab.attached(links: 2)
    let kernel = lab.kernel
    let load = Task.detached { () throws -> ModelLoad in
      var load = ModelLoad(size: 1 << 20, seed: 6)
      try load.run(3000, depth: 16, on: kernel)
      return load
    }
    for _ in 0..<5 {
      let links = try await lab.relay.replaceAll(with: [try lab.link(), try lab.link()], within: .seconds(20))
      #expect(links.count == 2)
    }
    let done = try await load.value
    #expect(done.mismatches.isEmpty)
    try await lab.server.wait { $0.disconnected == 10 }
    #expect(lab.events.all.losses.isEmpty)
    #expect(lab.server.facts.violations.isEmpty)
    #expect(try lab.kernel.ask(.read, at: 0, length: 1 << 20).data == done.image)
    await lab.end()
  }

  @Test("before servers change the old one has flushed")
  func flushedBeforeChange() async throws {
    let lab = try await RelayLab.attached()
    let data = pattern(4096, 1)
    #expect(try lab.kernel.ask(.write, at: 0, data).error == nil)
    #expect(lab.server.unsafeBlockCount > 0)
    let other = try ForgetfulServer(size: 1 << 20)
    try await lab.relay.replaceAll(with: [try lab.link(to: other)], within: .seconds(20))
    #expect(lab.server.unsafeBlockCount == 0)
    #expect(try lab.kernel.ask(.write, at: 4096, data).error == nil)
    #expect(Array(other.visible[4096..<8192]) == data)
    await lab.end()
  }

  @Test("servers that do not answer in time stay, and the new ones are closed")
  func replaceInVain() async throws {
    let lab = try await RelayLab.attached()
    lab.server.behave { $0.treat = { _ in .hold } }
    try lab.kernel.send(.write, at: 0, pattern(512, 1))
    try await lab.server.wait { $0.held == 1 }
    let other = try ForgetfulServer(size: 1 << 20)
    await #expect(throws: RelayError.notInTime) {
      try await lab.relay.replaceAll(with: [try lab.link(to: other)], within: .milliseconds(50))
    }
    try await other.wait { $0.closed == 1 }
    lab.server.finishHeld()
    #expect(try lab.kernel.receive().error == nil)
    #expect(lab.relay.linkCount == 1)
    await lab.end()
  }

  @Test("a drained relay has flushed, takes nothing until it resumes, and goes on then")
  func drain() async throws {
    let lab = try await RelayLab.attached()
    var load = ModelLoad(size: 65536, seed: 2)
    load.longest = 4096
    try load.run(200, depth: 8, on: lab.kernel)
    #expect(await lab.relay.drain(within: .seconds(20)))
    #expect(lab.server.unsafeBlockCount == 0)
    #expect(lab.relay.snapshot().unflushedEntries == 0)
    let count = lab.server.facts.received
    try lab.kernel.send(.read, at: 0, length: 512)
    #expect(await !lab.relay.drain(within: .zero) || lab.server.facts.received == count)
    lab.relay.resume()
    #expect(try lab.kernel.receive().data == Array(load.image[..<512]))
    await lab.end()
  }

  @Test("a drain that is not done in time changes nothing")
  func drainInVain() async throws {
    let lab = try await RelayLab.attached()
    lab.server.behave { $0.treat = { _ in .hold } }
    try lab.kernel.send(.write, at: 0, pattern(512, 1))
    try await lab.server.wait { $0.held == 1 }
    #expect(await !lab.relay.drain(within: .milliseconds(50)))
    lab.server.behave { $0.treat = { _ in .serve } }
    lab.server.finishHeld()
    #expect(try lab.kernel.receive().error == nil)
    #expect(try lab.kernel.ask(.flush).error == nil)
    await lab.end()
  }

  @Test("given up, all is answered with EIO; when a server comes, all goes on and nothing acknowledged is lost")
  func giveUp() async throws {
    let lab = try await RelayLab.attached()
    let data = pattern(4096, 1)
    #expect(try lab.kernel.ask(.write, at: 0, data).error == nil)
    lab.server.crash()
    await lab.events.waitForLosses(1)
    for index in 1...3 { try lab.kernel.send(.write, at: UInt64(index) * 4096, data) }
    try lab.kernel.send(.flush)
    lab.relay.giveUp()
    for _ in 0..<4 { #expect(try lab.kernel.receive().error == .inputOutput) }
    #expect(try lab.kernel.ask(.read, at: 0, length: 512).error == .inputOutput)
    try await lab.restartServer()
    #expect(try lab.kernel.ask(.read, at: 0, length: 4096).data == data)
    #expect(lab.relay.snapshot().writes.errors == 3)
    await lab.end()
  }

  @Test("what is asked of a relay that has ended is answered")
  func ended() async throws {
    let lab = try await RelayLab.attached()
    await lab.end()
    await lab.end()
    #expect(await lab.relay.add([try lab.link()]).isEmpty)
    #expect(await !lab.relay.drain(within: .seconds(1)))
    await #expect(throws: RelayError.ended) {
      try await lab.relay.replaceAll(with: [try lab.link()], within: .seconds(1))
    }
    try lab.kernel.waitForEnd()
    try await lab.server.wait { $0.disconnected == 1 }
  }
}
