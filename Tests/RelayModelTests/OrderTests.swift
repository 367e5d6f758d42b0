import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct OrderTests {
  @Test("a write goes out under another cookie, and its answer comes back under the kernel's")
  func write() throws {
    let scene = Scene(LedgerLimits(unflushedBytes: 0))
    scene.join(1)
    scene.write(77, at: 1)
    let sent = scene.sent()
    let write = try #require(sent.first)
    #expect(sent.count == 1)
    #expect(write.payload == PayloadLocation(segment: 77, offset: 28))
    #expect(write.isWhole)
    #expect(scene.expected(write)?.destination == .kernel(cookie: 77))
    #expect(scene.reply(write) == .answer(kernelCookie: 77, error: 0))
    #expect(scene.released() == [77])
  }

  @Test("requests go out in the order in which they came")
  func order() {
    let scene = Scene()
    scene.join(1)
    scene.ask(.read, 1, at: 9)
    scene.write(2, at: 3)
    scene.ask(.flush, 3)
    scene.ask(.trim, 4, at: 7)
    #expect(scene.sent().map(\.command) == [.read, .write, .flush, .trim])
  }

  @Test("a write that overlaps one in flight waits, and others pass it")
  func overlap() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0, blocks: 2)
    scene.write(2, at: 1, blocks: 2)
    scene.write(3, at: 2)
    scene.write(4, at: 8)
    let first = scene.sent()
    #expect(first.map(\.block) == [0, 8])
    scene.reply(first[1])
    #expect(scene.sent().isEmpty)
    scene.reply(first[0])
    let second = scene.sent()
    // The third overlaps the second, which came before it.
    #expect(second.map(\.block) == [1])
    scene.reply(second[0])
    #expect(scene.sent().map(\.block) == [2])
  }

  @Test("reads and FLUSH don't wait for writes")
  func unordered() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.write(2, at: 0)
    scene.ask(.read, 3, at: 0)
    scene.ask(.flush, 4)
    #expect(scene.sent().map(\.command) == [.write, .read, .flush])
  }

  @Test("writes that only touch are in flight together")
  func neighbours() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.write(2, at: 1)
    scene.write(3, at: 2)
    #expect(scene.sent().count == 3)
  }

  @Test("a range past the end of all numbers overlaps, and nothing traps")
  func pastTheEnd() {
    let scene = Scene()
    scene.join(1)
    for cookie in 1...2 as ClosedRange<UInt64> {
      scene.ledger.accept(
        Request(.writeZeroes, cookie: cookie, offset: .max - 10, length: .max), payload: nil, now: 1)
    }
    #expect(scene.sent().count == 1)
  }

  @Test("a lone request always takes the same link, several take the one with the fewest bytes under way")
  func links() {
    let scene = Scene()
    scene.join(1)
    scene.join(2)
    for cookie in 1...3 as ClosedRange<UInt64> {
      scene.ask(.read, cookie)
      #expect(scene.answerAll().map(\.link) == [1])
    }
    scene.ask(.read, 4, blocks: 8)
    scene.ask(.read, 5)
    scene.ask(.read, 6)
    #expect(scene.sent().map(\.link) == [1, 2, 2])
  }

  @Test("a full link is passed over")
  func fullLink() {
    let scene = Scene()
    scene.join(1)
    scene.join(2)
    scene.ledger.setWritable(1, false)
    scene.ask(.read, 1)
    #expect(scene.sent().map(\.link) == [2])
    scene.ledger.setWritable(2, false)
    scene.ask(.read, 2)
    #expect(scene.sent().isEmpty)
    scene.ledger.setWritable(1, true)
    #expect(scene.sent().map(\.link) == [1])
  }

  @Test("no more is taken than may be held")
  func limit() {
    let scene = Scene(LedgerLimits(unflushedBytes: 0, requests: 2))
    scene.join(1)
    scene.ask(.read, 1)
    #expect(scene.acceptsRequests)
    scene.ask(.read, 2)
    #expect(!scene.acceptsRequests)
    scene.answerAll()
    #expect(scene.acceptsRequests)
  }

  @Test("a reply that was not asked for on that link is a violation", arguments: [0, 1, 1 << 32, .max] as [UInt64])
  func violation(cookie: UInt64) throws {
    let scene = Scene()
    scene.join(1)
    scene.join(2)
    scene.ask(.read, 1)
    let read = try #require(scene.sent().first)
    let elsewhere = scene.ledger.expected(read.cookie, from: 2)
    #expect(elsewhere == nil)
    #expect(scene.reply(read.cookie, from: 2) == .violation)
    #expect(scene.reply(read.cookie, from: 99) == .violation)
    #expect(scene.reply(read) == .answer(kernelCookie: 1, error: 0))
    // Answered already.
    #expect(scene.expected(read) == nil)
    #expect(scene.reply(read) == .violation)
    #expect(scene.reply(cookie, from: 1) == .violation)
  }

  @Test("an error is the server's answer, and such a write is not kept")
  func error() throws {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    let write = try #require(scene.sent().first)
    #expect(scene.reply(write, error: 28) == .answer(kernelCookie: 1, error: 28))
    #expect(scene.unflushed == 0)
    #expect(scene.released() == [1])
  }
}
