import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct LifeTests {
  @Test("giving up answers EIO to all that waits and all that comes, until a link joins; the log is kept")
  func givenUp() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.write(2, at: 0)
    scene.write(3, at: 0)
    scene.ask(.read, 4)
    _ = scene.sent()
    scene.lose(1)
    scene.ledger.giveUp(now: 1)
    #expect(scene.answers() == [2: 5, 3: 5, 4: 5])
    scene.write(5, at: 0)
    #expect(scene.answers() == [5: 5])
    #expect(Set(scene.released()) == [2, 3, 5])
    #expect(scene.unflushed == 1)
    scene.join(2)
    scene.ask(.read, 6)
    let replay = scene.sent()
    #expect(replay.map(\.payload?.segment) == [1])
    scene.reply(replay[0])
    #expect(scene.sent().map(\.command) == [.read])
  }

  @Test("giving up changes nothing while a link is there")
  func notGivenUp() {
    let scene = Scene()
    scene.join(1)
    scene.ask(.read, 1)
    scene.ledger.giveUp(now: 1)
    #expect(scene.answers().isEmpty)
    #expect(scene.answerAll().count == 1)
  }

  @Test("a write that a leaving link holds when waiting is given up is answered, and still waited for")
  func givenUpWhileLeaving() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    let write = scene.sent()
    scene.leave(1)
    scene.ledger.giveUp(now: 1)
    #expect(scene.answers() == [1: 5])
    #expect(scene.released().isEmpty)
    scene.join(2)
    scene.write(2, at: 0)
    #expect(scene.sent().isEmpty)
    #expect(scene.reply(write[0]) == .swallowed)
    #expect(scene.released() == [1])
    #expect(scene.sent().map(\.payload?.segment) == [2])
  }

  @Test("draining takes no more, and flushes once all is answered")
  func drained() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.ledger.drain()
    #expect(!scene.acceptsRequests)
    let write = scene.sent()
    #expect(write.map(\.command) == [.write])
    scene.reply(write[0])
    #expect(!scene.isDrained)
    #expect(scene.answerAll().map(\.command) == [.flush])
    #expect(scene.isDrained)
    #expect(scene.released() == [1])
    scene.ledger.undrain()
    #expect(scene.acceptsRequests)
  }

  @Test("a drained ledger that could not flush tries again at the next tick")
  func drainFails() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.ledger.drain()
    scene.reply(scene.sent()[0], error: 5)
    #expect(scene.sent().isEmpty)
    #expect(!scene.isDrained)
    scene.ledger.tick(now: scene.now)
    scene.answerAll()
    #expect(scene.isDrained)
    #expect(scene.owesError)
  }

  @Test("the kernel's new socket: nothing old is answered, and writes of the same range wait for the old ones")
  func reset() {
    let scene = Scene(LedgerLimits(unflushedBytes: 1 << 20, requests: 4))
    scene.join(1)
    scene.write(1, at: 0)
    scene.ask(.read, 2)
    let old = scene.sent()
    scene.write(3, at: 0)
    scene.ledger.kernelReset()
    #expect(scene.released() == [3])
    #expect(scene.unanswered == 0)
    scene.write(1, at: 0)
    #expect(scene.sent().isEmpty)
    #expect(scene.expected(old[1])?.destination == .nobody)
    #expect(scene.reply(old[1]) == .swallowed)
    #expect(scene.reply(old[0]) == .swallowed)
    #expect(scene.unflushed == 0)
    #expect(scene.sent().count == 1)
    #expect(scene.answers().isEmpty)
  }

  @Test("after the kernel's new socket what was on a lost link is not sent again, and the log is")
  func resetAndLoss() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.write(2, at: 1)
    _ = scene.sent()
    scene.ledger.kernelReset()
    scene.lose(1)
    #expect(scene.released() == [2])
    scene.join(2)
    #expect(scene.answerAll().map(\.payload?.segment) == [1])
  }

  @Test("half of a split request that nobody waits for is not sent")
  func resetInParts() {
    let scene = Scene()
    scene.join(1, ServerLimits(maximumPayload: 512))
    scene.write(1, at: 0, blocks: 256)
    let parts = scene.sent()
    scene.ledger.kernelReset()
    for part in parts { scene.reply(part) }
    #expect(scene.sent().isEmpty)
    #expect(scene.released() == [1])
    #expect(scene.unflushed == 0)
  }

  @Test("NBD_CMD_DISC is not for the ledger")
  func disconnect() {
    let scene = Scene()
    scene.join(1)
    scene.ledger.accept(Request(.disconnect, cookie: 1), payload: nil, now: 1)
    #expect(scene.sent().isEmpty)
    #expect(scene.unanswered == 0)
  }
}
