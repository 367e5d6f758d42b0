import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct LogTests {
  @Test("an acknowledged write is kept, and its payload with it, until a FLUSH has covered it")
  func kept() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    #expect(scene.unflushed == 1)
    #expect(scene.keptBytes == 4096)
    #expect(scene.released().isEmpty)
    scene.ask(.flush, 2)
    scene.answerAll()
    #expect(scene.unflushed == 0)
    #expect(scene.keptBytes == 0)
    #expect(scene.released() == [1])
  }

  @Test("a FLUSH covers what was acknowledged before it was sent, and nothing later")
  func covered() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.write(2, at: 1)
    scene.ask(.flush, 3)
    let sent = scene.sent()
    // Acknowledged after the FLUSH was sent, though before it was answered.
    scene.reply(sent[0])
    scene.reply(sent[1])
    #expect(scene.unflushed == 1)
    #expect(scene.released() == [1])
  }

  @Test("a FLUSH that fails drops nothing, and the kernel gets its error")
  func failed() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.ask(.flush, 2)
    let flush = scene.sent()
    #expect(scene.reply(flush[0], error: 5) == .answer(kernelCookie: 2, error: 5))
    #expect(scene.unflushed == 1)
  }

  @Test("trims and zeroes are kept too", arguments: [CommandCode.trim, .writeZeroes])
  func withoutPayload(command: CommandCode) {
    let scene = Scene()
    scene.join(1)
    scene.ask(command, 1)
    scene.answerAll()
    #expect(scene.unflushed == 1)
    #expect(scene.keptBytes == 0)
  }

  @Test("a write with FUA is kept only while an older one could be replayed over it")
  func fua() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0, flags: .fua)
    scene.answerAll()
    #expect(scene.unflushed == 0)
    scene.write(2, at: 5)
    scene.write(3, at: 0, flags: .fua)
    scene.answerAll()
    #expect(scene.unflushed == 2)
  }

  @Test("a write with FUA to a server without FUA is kept as any other")
  func fuaWithoutFUA() {
    let scene = Scene()
    scene.join(1, ServerLimits(canFUA: false))
    scene.write(1, at: 0, flags: .fua)
    scene.answerAll()
    #expect(scene.unflushed == 1)
  }

  @Test("nothing is kept when the server has no FLUSH, or the limit is 0", arguments: [true, false])
  func nothing(canFlush: Bool) {
    let scene = Scene(LedgerLimits(unflushedBytes: canFlush ? 0 : 1 << 20))
    scene.join(1, ServerLimits(canFlush: canFlush))
    for cookie in 1...5 as ClosedRange<UInt64> { scene.write(cookie, at: 0) }
    #expect(scene.answerAll().count == 5)
    #expect(scene.unflushed == 0)
    #expect(scene.released().count == 5)
  }

  @Test("once the limit is 0 the log is flushed before anything that it could be replayed over goes out")
  func loweredLimit() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.ledger.limits.unflushedBytes = 0
    scene.write(2, at: 0)
    #expect(scene.sent().map(\.command) == [.flush])
  }

  @Test("at half of the limit a FLUSH of our own goes out, one at a time, while writes go on")
  func half() {
    let scene = Scene(LedgerLimits(unflushedBytes: 8 * 4096))
    scene.join(1)
    for cookie in 1...3 as ClosedRange<UInt64> { scene.write(cookie, at: cookie) }
    #expect(scene.answerAll().allSatisfy { $0.command == .write })
    scene.write(4, at: 4)
    scene.reply(scene.sent()[0])
    let flush = scene.sent()
    #expect(flush.map(\.command) == [.flush])
    scene.write(5, at: 5)
    let write = scene.sent()
    #expect(write.map(\.command) == [.write])
    #expect(scene.reply(flush[0]) == .swallowed)
    #expect(scene.unflushed == 0)
  }

  @Test("at the limit writes wait for a FLUSH, and reads don't")
  func full() {
    let scene = Scene(LedgerLimits(unflushedBytes: 1 << 20, unflushedEntries: 2))
    scene.join(1)
    for cookie in 1...3 as ClosedRange<UInt64> { scene.write(cookie, at: cookie) }
    scene.ask(.read, 4, at: 9)
    let sent = scene.sent()
    #expect(sent.map(\.command) == [.write, .write, .read])
    scene.reply(sent[0])
    let flush = scene.sent()
    #expect(flush.map(\.command) == [.flush])
    #expect(scene.waiting == 1)
    scene.reply(flush[0])
    #expect(scene.sent().map(\.block) == [3])
  }

  @Test("a write that is longer than the whole limit goes alone")
  func tooLong() {
    let scene = Scene(LedgerLimits(unflushedBytes: 4096))
    scene.join(1)
    scene.write(1, at: 0, blocks: 4)
    scene.write(2, at: 8)
    #expect(scene.sent().map(\.block) == [0])
    scene.answerAll()
    #expect(scene.waiting == 1)
  }

  @Test("what is older than five seconds is flushed")
  func age() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.now += RelayLedger.oldestUnflushed - 1
    scene.ledger.tick(now: scene.now)
    #expect(scene.sent().isEmpty)
    scene.now += 1
    scene.ledger.tick(now: scene.now)
    #expect(scene.answerAll().map(\.command) == [.flush])
    #expect(scene.unflushed == 0)
  }

  @Test("a FLUSH of our own that fails has taken the server's error: the kernel's next FLUSH and FUA get EIO, once")
  func ownFlushFailed() {
    let scene = Scene(LedgerLimits(unflushedBytes: 2 * 4096))
    scene.join(1)
    scene.write(1, at: 0)
    scene.reply(scene.sent()[0])
    let own = scene.sent()
    #expect(scene.reply(own[0], error: 28) == .swallowed)
    #expect(scene.events() == [.flushFailed(error: 28)])
    #expect(scene.owesError)
    #expect(scene.unflushed == 1)
    scene.write(2, at: 5, flags: .fua)
    #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: 2, error: 5))
    for (cookie, error) in [(3, 5), (4, 0)] as [(UInt64, UInt32)] {
      scene.ask(.flush, cookie)
      #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: cookie, error: error))
    }
    #expect(!scene.owesError)
  }

  @Test("a FLUSH of our own that failed is not repeated before the next tick")
  func ownFlushNotRepeated() {
    let scene = Scene(LedgerLimits(unflushedBytes: 8 * 4096, unflushedEntries: 2))
    scene.join(1)
    scene.write(1, at: 0)
    scene.reply(scene.sent()[0])
    scene.reply(scene.sent()[0], error: 5)
    #expect(scene.sent().isEmpty)
    scene.ledger.tick(now: scene.now)
    #expect(scene.sent().map(\.command) == [.flush])
  }

  @Test("while the log is full and can't be flushed, writes fail with that error rather than hang")
  func fullAndFailing() {
    let scene = Scene(LedgerLimits(unflushedBytes: 1 << 20, unflushedEntries: 1))
    scene.join(1)
    scene.write(1, at: 0)
    scene.write(2, at: 1)
    scene.write(3, at: 1)
    scene.reply(scene.sent()[0])
    scene.reply(scene.sent()[0], error: 28)
    #expect(scene.answers() == [2: 28])
    // What waited for the failed one asks again.
    scene.reply(scene.sent()[0], error: 5)
    #expect(scene.answers() == [3: 5])
    #expect(scene.released() == [2, 3])
  }
}
