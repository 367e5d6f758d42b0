import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct SilenceTests {
  @Test("a leaving link's reads go out elsewhere at once, its writes stay until the link is lost")
  func leaving() {
    let scene = Scene()
    scene.join(1)
    scene.join(2)
    scene.ledger.setWritable(2, false)
    scene.write(1, at: 0)
    scene.ask(.read, 2)
    scene.ask(.flush, 3)
    let old = scene.sent()
    scene.ledger.setWritable(2, true)
    scene.leave(1)
    let moved = scene.sent()
    #expect(moved.map(\.command) == [.read, .flush])
    #expect(moved.allSatisfy { $0.link == 2 })
    // Late, and answered elsewhere: only its length matters.
    #expect(scene.expected(old[1])?.payloadLength == 4096)
    #expect(scene.expected(old[1])?.destination == .nobody)
    #expect(scene.reply(old[1]) == .swallowed)
    #expect(scene.reply(moved[0]) == .answer(kernelCookie: 2, error: 0))
    // A newer write of the same block must not be overtaken by the one that the server still holds.
    scene.write(4, at: 0)
    #expect(scene.sent().isEmpty)
    scene.lose(1)
    #expect(scene.sent().map(\.payload?.segment) == [1])
    #expect(scene.answerAll().isEmpty)
  }

  @Test("a late answer to a write counts")
  func late() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    let write = scene.sent()
    scene.join(2)
    scene.leave(1)
    #expect(scene.reply(write[0]) == .answer(kernelCookie: 1, error: 0))
    // It was acknowledged by the old link's server: the new one gets it again.
    #expect(scene.sent().map(\.link) == [2])
    #expect(scene.unflushed == 1)
  }

  @Test("no replay begins while a leaving link holds a write")
  func noReplay() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.write(2, at: 0)
    scene.ask(.read, 3)
    _ = scene.sent()
    scene.join(2)
    scene.leave(1)
    #expect(scene.sent().isEmpty)
    scene.lose(1)
    #expect(scene.sent().map(\.payload?.segment) == [1])
  }

  @Test("a link that leaves in the middle of a replay: from the start on another, once nothing is out on it")
  func leavingInReplay() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.lose(1)
    scene.join(2)
    let replay = scene.sent()
    scene.leave(2)
    scene.join(3)
    #expect(scene.sent().isEmpty)
    #expect(scene.reply(replay[0]) == .swallowed)
    #expect(scene.sent().map(\.link) == [3])
    #expect(scene.released().isEmpty)
  }

  @Test("a link is said to be silent once its oldest request is older than the request-timeout")
  func silent() {
    let scene = Scene(LedgerLimits(unflushedBytes: 0, requestTimeout: 5))
    scene.join(1)
    scene.now = 10
    scene.ask(.read, 1)
    let read = scene.sent()
    scene.ledger.tick(now: 14)
    #expect(scene.events().isEmpty)
    scene.ledger.tick(now: 15)
    scene.ledger.tick(now: 16)
    #expect(scene.events() == [.silent(1)])
    #expect(scene.reply(read[0]) == .answer(kernelCookie: 1, error: 0))
    scene.ledger.tick(now: 17)
    scene.ledger.tick(now: 18)
    #expect(scene.events() == [.speaking(1)])
    // Another silence is told as well.
    scene.now = 20
    scene.ask(.read, 2)
    _ = scene.sent()
    scene.ledger.tick(now: 25)
    #expect(scene.events() == [.silent(1)])
  }

  @Test("a request that waits for thirty seconds is a stall, until it is answered")
  func stalled() {
    let scene = Scene()
    scene.now = 7
    scene.ask(.read, 1)
    scene.ledger.tick(now: 7 + RelayLedger.stallThreshold - 1)
    #expect(scene.events().isEmpty)
    scene.ledger.tick(now: 7 + RelayLedger.stallThreshold)
    scene.ledger.tick(now: 8 + RelayLedger.stallThreshold)
    #expect(scene.events() == [.stalled(since: 7)])
    scene.join(1)
    scene.answerAll()
    scene.ledger.tick(now: 9 + RelayLedger.stallThreshold)
    #expect(scene.events() == [.unstalled])
  }
}
