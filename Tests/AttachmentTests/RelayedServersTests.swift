import AttachmentModel
import FakeDriver
import ForgetfulServer
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("a relay's worker, and which server it leads to")
struct RelayedServersTests {
  private static let block = [UInt8](repeating: 0xa5, count: 512)

  /// 400 blocks, one after the other; what was answered to those that failed.
  private static func writes(by driver: DriverSide) -> Task<[ErrorCode], any Error> {
    Task {
      var errors: [ErrorCode] = []
      for number in 0..<400 as Range<UInt64> {
        if let error = try await driver.write(block, at: number * 512) { errors.append(error) }
      }
      return errors
    }
  }

  private func servers() throws -> (TemporaryDirectory, ForgetfulServer, ServerURI, ForgetfulServer, ServerURI) {
    let directory = try TemporaryDirectory()
    let (one, two) = (try ForgetfulServer(size: 1 << 20), try ForgetfulServer(size: 1 << 20))
    return (
      directory, one, try one.listen(onUnix: "\(directory.path)/one"), two,
      try two.listen(onUnix: "\(directory.path)/two")
    )
  }

  @Test("a server that stays away is replaced by the next of the list, to which the I/O goes")
  func failOver() async throws {
    let (directory, one, first, two, second) = try servers()
    let lab = try RelayLab(first, second)
    try await lab.start()
    let driver = try lab.driver()
    one.crash()
    #expect(try await driver.write(Self.block, at: 0) == nil)
    let report = try await lab.wait("the second server") { $0.state == .attached && $0.server == "\(second)" }
    #expect(report.losses == 1)
    try await eventually("the move is told") { lab.notices.contains(.serverChanged(from: first, to: second)) }
    #expect(two.visible.prefix(512).elementsEqual(Self.block))
    // The one in use is tried first when it is lost.
    try one.restart()
    let before = one.facts.connected
    two.drop()
    try await lab.wait("the second server again") { $0.state == .attached && $0.losses == 2 }
    #expect(await lab.worker.report.server == "\(second)")
    #expect(one.facts.connected == before)
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a move goes on under I/O without an error, and is kept to: the old server is never asked again")
  func move() async throws {
    let (directory, one, first, two, second) = try servers()
    let lab = try RelayLab(first)
    try await lab.start()
    let driver = try lab.driver()
    let writes = Self.writes(by: driver)
    try await one.received(count: 20, of: .write)
    try await lab.worker.move(to: second)
    #expect(try await writes.value == [])
    let connected = one.facts.connected
    #expect(one.facts.disconnected == connected)
    #expect(one.unsafeBlockCount == 0)
    #expect((one.facts.receivedByCommand[.write] ?? 0) + (two.facts.receivedByCommand[.write] ?? 0) == 400)
    #expect(await lab.worker.report.server == "\(second)")
    #expect(lab.observations.allSatisfy { $0.report.losses == 0 })
    two.crash()
    try await lab.wait(for: .reconnecting)
    try two.restart()
    try await lab.wait("the second server again") { $0.state == .attached && $0.losses > 0 }
    #expect(one.facts.connected == connected)
    #expect(one.facts.violations == [] && two.facts.violations == [])
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a reconnection makes every link anew under I/O, without an error or a loss", arguments: [1, 3])
  func reconnect(links: Int) async throws {
    let (directory, one, first, _, _) = try servers()
    let lab = try RelayLab(first) { $0.connections = links }
    try await lab.start()
    let driver = try lab.driver()
    let writes = Self.writes(by: driver)
    try await one.received(count: 20, of: .write)
    try await lab.worker.reconnect()
    #expect(try await writes.value == [])
    #expect(one.facts.connected == 2 * links)
    try await eventually("the old links have taken their leave") { one.facts.disconnected == links }
    #expect(one.facts.receivedByCommand[.write] == 400)
    let report = await lab.worker.report
    #expect(report.state == .attached && report.links == links && report.losses == 0)
    #expect(lab.states == [.connecting, .attached])
    #expect(one.facts.violations == [])
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a reconnection of what waits tries now, and says what comes of it")
  func reconnectWaiting() async throws {
    let (directory, one, first, _, _) = try servers()
    let lab = try RelayLab(first) { $0.retry = RetryPolicy(initial: .seconds(3600), maximum: .seconds(3600)) }
    one.crash()
    await lab.worker.start()
    try await lab.wait(for: .waiting)
    await #expect(throws: Failure.self) { try await lab.worker.reconnect() }
    try one.restart()
    try await lab.worker.reconnect()
    #expect(await lab.worker.report.state == .attached)
    await lab.worker.stop()
    await #expect(throws: Failure.self) { try await lab.worker.reconnect() }
    withExtendedLifetime(directory) {}
  }

  @Test("a reconnection waits for what is under way, which may have begun with older credentials")
  func reconnectTwice() async throws {
    let (directory, one, first, _, _) = try servers()
    let lab = try RelayLab(first)
    try await lab.start()
    async let before: Void = lab.worker.reconnect()
    async let after: Void = lab.worker.reconnect()
    _ = try await (before, after)
    #expect(one.facts.connected == 3)
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a move to a server that can't be had changes nothing")
  func failedMove() async throws {
    let (directory, one, first, two, second) = try servers()
    two.behave { $0.offer.size = 1 << 19 }
    let lab = try RelayLab(first)
    try await lab.start()
    for server in [second, ServerURI(address: .unix(path: "\(directory.path)/none"))] {
      await #expect(throws: Failure.self) { try await lab.worker.move(to: server) }
      let report = await lab.worker.report
      #expect(report.state == .attached && report.server == "\(first)")
    }
    #expect(try await lab.driver().write(Self.block, at: 0) == nil)
    one.drop()
    try await lab.wait("the first server again") { $0.state == .attached && $0.losses == 1 && $0.server == "\(first)" }
    await lab.worker.stop()
  }

  @Test("a move of what has no server tries the new one, and a later start keeps to it")
  func moveWhileHolding() async throws {
    let (directory, one, first, two, second) = try servers()
    let lab = try RelayLab(first)
    try await lab.start()
    one.crash()
    try await lab.wait(for: .reconnecting)
    try await lab.worker.move(to: second)
    try await lab.wait("the second server") { $0.state == .attached && $0.server == "\(second)" }
    await lab.worker.stop()
    let next = try RelayLab(first, movedTo: second)
    try await next.start()
    #expect(await next.worker.report.server == "\(second)")
    // Other servers are declared: the move is taken into account.
    var spec = await next.worker.spec
    try one.restart()
    spec.servers = [first, second]
    await next.worker.update(spec)
    #expect(await !next.worker.isOutdated)
    spec.servers = [first]
    await next.worker.update(spec)
    try await next.wait("the first server") { $0.state == .attached && $0.server == "\(first)" }
    await next.worker.stop()
    withExtendedLifetime((directory, two)) {}
  }

  @Test("an earlier server that is back is gone back to, where that is wanted")
  func failBack() async throws {
    let (directory, one, first, two, second) = try servers()
    let lab = try RelayLab(first, second) { $0.failBack = .milliseconds(200) }
    try await lab.start()
    one.crash()
    try await lab.wait("the second server") { $0.state == .attached && $0.server == "\(second)" }
    let before = lab.observations.count
    try one.restart()
    try await lab.wait("the first server", skipping: before) { $0.state == .attached && $0.server == "\(first)" }
    #expect(lab.states.last == .attached)
    #expect(two.facts.disconnected > 0)
    #expect(try await lab.driver().write(Self.block, at: 0) == nil)
    #expect(one.visible.prefix(512).elementsEqual(Self.block))
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a silent server is given up only when another connection stands, and what it holds is its own until it closes")
  func silence() async throws {
    let (directory, one, first, two, second) = try servers()
    let lab = try RelayLab(first, second) { $0.requestTimeout = .seconds(1) }
    try await lab.start()
    one.behave { behaviour in
      behaviour.treat = { $0.request.command == .write ? .hold : .serve }
      behaviour.halfClose = .waits
    }
    let driver = try lab.driver()
    async let error = driver.write(Self.block, at: 0)
    try await lab.wait("the second server") { $0.state == .attached && $0.server == "\(second)" }
    try await one.wait { $0.halfClosed > 0 }
    #expect(lab.notices.contains(.silent))
    #expect(lab.observations.allSatisfy { $0.report.losses == 0 })
    #expect(two.facts.receivedByCommand[.write] == nil)
    one.finishHeld()
    #expect(try await error == nil)
    #expect(one.facts.violations == [] && two.facts.violations == [])
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a server that has lost one link and is silent on the other is replaced by the next of the list")
  func silenceOfTheRest() async throws {
    let (directory, one, first, two, second) = try servers()
    let lab = try RelayLab(first, second) { spec in
      spec.requestTimeout = .seconds(1)
      spec.connections = 2
    }
    try await lab.start()
    one.behave { behaviour in
      behaviour.treat = { $0.request.command == .write ? .hold : .serve }
      behaviour.halfClose = .waits
      // Nobody gets a new connection to it.
      behaviour.offer.size = 1 << 19
    }
    one.drop(connection: 0)
    try await lab.wait("one link") { $0.links == 1 && $0.losses == 1 }
    let driver = try lab.driver()
    // Not awaited where it is never answered.
    let write = Task { try await driver.write(Self.block, at: 0) }
    let report = try await lab.wait("the second server") { $0.state == .attached && $0.server == "\(second)" }
    #expect(report.links == 2 && report.losses == 1)
    try await one.wait { $0.halfClosed > 0 }
    one.finishHeld()
    #expect(try await write.value == nil)
    #expect(one.facts.violations == [] && two.facts.violations == [])
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a silent server in place of which none can be had keeps its link")
  func silenceWithoutAnother() async throws {
    let (directory, one, first, _, _) = try servers()
    let lab = try RelayLab(first) { $0.requestTimeout = .seconds(1) }
    try await lab.start()
    one.behave { $0.treat = { $0.request.command == .write ? .hold : .serve } }
    // A server of another size is no other server.
    one.behave { $0.offer.size = 1 << 19 }
    let driver = try lab.driver()
    async let error = driver.write(Self.block, at: 0)
    try await eventually("the silence is told") { lab.notices.contains(.silent) }
    try await one.wait { $0.connected > 1 }
    one.finishHeld()
    #expect(try await error == nil)
    #expect(lab.observations.allSatisfy { $0.report.losses == 0 })
    #expect(await lab.worker.report.state == .attached)
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a server that drops each link at its first request holds I/O no longer than the reconnect-timeout")
  func flapping() async throws {
    let (directory, one, first, _, _) = try servers()
    let lab = try RelayLab(first) { $0.reconnectTimeout = .seconds(1) }
    try await lab.start()
    one.behave { $0.treat = { _ in .cut(after: 0) } }
    let driver = try lab.driver()
    let before = lab.observations.count
    // Not awaited where it is never answered.
    let write = Task { try await driver.write(Self.block, at: 0) }
    try await lab.wait("the end of waiting", skipping: before) { [.connecting, .waiting].contains($0.state) }
    #expect(try await write.value == .inputOutput)
    #expect(one.facts.connected > 2)
    one.behave { $0.treat = { _ in .serve } }
    try await lab.wait("the server again", skipping: lab.observations.count - 1) { $0.state == .attached }
    #expect(try await driver.write(Self.block, at: 0) == nil)
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("what a server refuses to take once more is told and shown, until that is acknowledged")
  func dataLost() async throws {
    let (directory, one, first, _, _) = try servers()
    let lab = try RelayLab(first)
    try await lab.start()
    let driver = try lab.driver()
    try await driver.write(Self.block, at: 1024)
    one.crash()
    one.behave { $0.refuse(.write, in: 1024..<1536, with: .noSpace) }
    try one.restart()
    let report = try await lab.wait("the loss") { $0.dataLossCount == 1 }
    let loss = try #require(report.dataLosses.first)
    #expect(loss.offset == 1024 && loss.length == 512 && loss.errnoCode == 28)
    #expect(try await driver.flush() == .inputOutput)
    #expect(try await driver.flush() == nil)
    await lab.worker.acknowledge()
    #expect(await lab.worker.report.dataLossCount == 0)
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a hand-over ends what is under way, and the next process goes on without a request lost")
  func handOver() async throws {
    let (directory, one, first, _, _) = try servers()
    let lab = try RelayLab(first)
    try await lab.start()
    let driver = try lab.driver()
    one.behave { $0.treat = { $0.request.command == .write ? .answerLate : .serve } }
    async let error = driver.write(Self.block, at: 0)
    try await one.wait { $0.held == 1 }
    async let departure: Void = lab.worker.handOver()
    try await eventually("the hand-over waits") { lab.kernel.setting("queue/io_timeout") == "1000" }
    #expect(lab.states.last == .attached)
    one.finishHeld()
    #expect(try await error == nil)
    await departure
    #expect(lab.states == [.connecting, .attached, .stopped])
    #expect(lab.commands == [.connect])
    #expect(lab.kernel.driver.linksUp(of: RelayLab.index) == 0)
    #expect(one.unsafeBlockCount == 0)
    #expect(!lab.notices.contains { if case .leftUnflushed = $0 { true } else { false } })

    one.behave { $0.treat = { _ in .serve } }
    try await eventually("the driver has noticed") { lab.kernel.driver.deadLinks(of: RelayLab.index) == 1 }
    let next = try await lab.successor()
    try await next.wait(for: .attached)
    #expect(next.states == [.reconnecting, .attached])
    #expect(next.commands == [.connect, .reconfigure])
    try await eventually("the timer is as it was") { next.kernel.setting("queue/io_timeout") == "5000" }
    #expect(try await next.driver().read(at: 0, count: 512) == Self.block)
    await next.worker.stop()
    withExtendedLifetime(directory) {}
  }
}
