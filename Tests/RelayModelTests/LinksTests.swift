import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct LinksTests {
  /// A write is kept, and another link joins.
  private func joined(_ server: ServerLimits = ServerLimits(canMultiConn: true)) -> Scene {
    let scene = Scene()
    scene.join(1, server)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.join(2, server)
    return scene
  }

  @Test("a link that joins while others are up is not used before a FLUSH on an older one has succeeded")
  func probation() {
    let scene = joined()
    scene.ask(.read, 2, blocks: 8)
    scene.ask(.read, 3)
    let sent = scene.sent()
    #expect(sent.map(\.command) == [.flush, .read, .read])
    #expect(sent.allSatisfy { $0.link == 1 })
    scene.reply(sent[0])
    scene.ask(.read, 4)
    #expect(scene.sent().map(\.link) == [2])
  }

  @Test("a FLUSH that was sent before the link joined proves nothing")
  func olderFlush() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.ask(.flush, 2)
    scene.write(3, at: 1)
    let sent = scene.sent()
    scene.join(2)
    scene.reply(sent[1])
    scene.reply(sent[0])
    scene.ledger.setWritable(1, false)
    scene.ask(.read, 4)
    #expect(scene.sent().isEmpty)
  }

  @Test("the kernel's own FLUSH proves as well")
  func kernelFlush() {
    let scene = joined()
    let own = scene.sent()
    scene.ask(.flush, 2)
    let flush = scene.sent()
    scene.reply(flush[0])
    scene.ledger.setWritable(1, false)
    scene.ask(.read, 3)
    #expect(scene.sent().map(\.link) == [2])
    #expect(scene.reply(own[0]) == .swallowed)
  }

  @Test("a FLUSH that fails proves nothing")
  func failedFlush() {
    let scene = joined()
    scene.reply(scene.sent()[0], error: 5)
    scene.ledger.setWritable(1, false)
    scene.ask(.read, 2)
    #expect(scene.sent().isEmpty)
  }

  @Test("with nothing acknowledged and unsafe, and no write under way, there is nothing to prove")
  func nothingToProve() {
    let scene = Scene()
    scene.join(1)
    scene.ask(.read, 1, blocks: 8)
    _ = scene.sent()
    scene.join(2)
    scene.ask(.read, 2)
    #expect(scene.sent().map(\.link) == [2])
  }

  @Test(
    "a write under way on an older link must be proven: its acknowledgement may have come from a server that is gone")
  func writeUnderWay() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    let write = scene.sent()
    scene.join(2)
    #expect(scene.sent().map(\.command) == [.flush])
    scene.reply(write[0])
    scene.ledger.setWritable(1, false)
    scene.ask(.flush, 2)
    #expect(scene.sent().isEmpty)
  }

  @Test("where nothing is kept there is nothing to prove either", arguments: [true, false])
  func nothingKept(canFlush: Bool) {
    let scene = Scene(LedgerLimits(unflushedBytes: canFlush ? 0 : 1 << 20))
    let server = ServerLimits(canFlush: canFlush, canMultiConn: true)
    scene.join(1, server)
    scene.write(1, at: 0, blocks: 8)
    _ = scene.sent()
    scene.join(2, server)
    scene.ask(.read, 2)
    #expect(scene.sent().map(\.link) == [2])
  }

  @Test("so must a part that was acknowledged of a write that is not complete")
  func partAcknowledged() {
    let scene = Scene()
    let small = ServerLimits(maximumPayload: 4096, canMultiConn: true)
    scene.join(1, small)
    scene.join(2, small)
    scene.write(1, at: 0, blocks: 2)
    let parts = scene.sent()
    #expect(parts.map(\.link) == [1, 2])
    scene.reply(parts[0])
    scene.lose(2)
    scene.ledger.setWritable(1, false)
    scene.join(3, small)
    // The second part would be acknowledged by a server that may not have the first.
    #expect(scene.sent().isEmpty)
  }

  @Test("the last proven link is lost while another waits for its proof: it gets the log first")
  func lostBeforeProof() {
    let scene = joined()
    _ = scene.sent()
    scene.lose(1)
    scene.ask(.read, 2)
    #expect(scene.sent().map(\.payload?.segment) == [1])
    scene.answerAll()
    #expect(scene.unflushed == 1)
  }

  @Test("after a replay the other links wait for a FLUSH that was sent on its link")
  func othersAfterReplay() {
    let scene = joined()
    scene.lose(1)
    let replay = scene.sent()
    // Its server may be one that came after that of the replay.
    scene.join(3)
    scene.reply(replay[0])
    scene.ask(.read, 2, blocks: 8)
    scene.ask(.read, 3)
    let sent = scene.sent()
    #expect(sent.map(\.command) == [.flush, .read, .read])
    #expect(sent.allSatisfy { $0.link == 2 })
    scene.reply(sent[0])
    scene.ask(.read, 4)
    #expect(scene.sent().map(\.link) == [3])
  }

  @Test("one of several is lost: a FLUSH on another, then what was under way on it, and no replay")
  func oneOfSeveral() throws {
    let scene = Scene()
    scene.join(1)
    scene.join(2)
    scene.write(1, at: 0)
    scene.answerAll()
    scene.write(2, at: 1)
    #expect(scene.sent().map(\.link) == [1])
    scene.lose(1)
    scene.write(3, at: 1)
    scene.ask(.read, 4)
    let sent = scene.sent()
    #expect(sent.map(\.command) == [.flush, .read])
    #expect(scene.reply(try #require(sent.first)) == .swallowed)
    let again = scene.sent()
    #expect(again.map(\.payload?.segment) == [2])
    scene.reply(try #require(again.first))
    #expect(scene.sent().map(\.payload?.segment) == [3])
    #expect(scene.events() == [.resent(count: 1)])
  }

  @Test("with nothing in the log there is nothing to wait for when one of several is lost")
  func oneOfSeveralEmpty() {
    let scene = Scene()
    scene.join(1)
    scene.join(2)
    scene.write(1, at: 0)
    _ = scene.sent()
    scene.lose(1)
    #expect(scene.sent().map(\.link) == [2])
  }

  @Test("where links don't share a cache only one is used, and the next gets the log")
  func withoutMultiConn() {
    let scene = joined(ServerLimits(canMultiConn: false))
    scene.ask(.read, 2, blocks: 8)
    scene.ask(.read, 3)
    #expect(scene.sent().map(\.link) == [1, 1])
    scene.lose(1)
    #expect(scene.sent().map(\.payload?.segment) == [1])
  }

  @Test("a link that nobody knows is lost, or leaves, or takes more: nothing happens")
  func unknown() {
    let scene = joined()
    scene.lose(9)
    scene.leave(9)
    scene.ledger.setWritable(9, true)
    scene.join(2)
    #expect(scene.answerAll().map(\.command) == [.flush])
  }

  @Test("an outage is told when a link is there again, and only where something is sent again")
  func recovered() {
    let scene = Scene()
    scene.join(1)
    scene.join(2)
    scene.ask(.read, 1)
    scene.ask(.read, 2, at: 8)
    let first = scene.sent()
    #expect(first.map(\.link) == [1, 2])
    // One of several is no outage.
    scene.lose(2)
    #expect(scene.sent().count == 1)
    #expect(scene.events() == [.resent(count: 1)])
    scene.lose(1)
    scene.ask(.read, 3, at: 16)
    #expect(scene.events() == [.resent(count: 2)])
    scene.join(3)
    #expect(scene.events() == [.recovered(resent: 2, replayed: 0, bytes: 0)])
    scene.answerAll()
    scene.lose(3)
    scene.ask(.read, 4)
    scene.join(4)
    #expect(scene.events().isEmpty)
  }

  @Test("of a split request that was lost once is told, once")
  func recoveredSplit() {
    let scene = Scene()
    scene.join(1, ServerLimits(maximumPayload: 4096))
    scene.write(1, at: 0, blocks: 3)
    scene.ask(.read, 2, at: 8, blocks: 3)
    scene.reply(scene.sent()[0])
    scene.lose(1)
    _ = scene.events()
    scene.join(2, ServerLimits(maximumPayload: 4096))
    #expect(scene.events() == [.recovered(resent: 2, replayed: 0, bytes: 0)])
  }

  @Test("a server that shuts down is waited for while it may still answer writes, and no longer")
  func awaited() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.write(2, at: 1)
    scene.ask(.read, 3, at: 2)
    let sent = scene.sent()
    #expect(scene.reply(sent[2], error: ErrorCode.shutdown.rawValue) == .linkIsEnding)
    #expect(scene.awaitsWrites(on: 1))
    for _ in 0..<2 { #expect(scene.reply(sent[0], error: ErrorCode.shutdown.rawValue) == .linkIsEnding) }
    #expect(scene.awaitsWrites(on: 1))
    scene.reply(sent[1])
    #expect(!scene.awaitsWrites(on: 1))
    scene.lose(1)
    #expect(!scene.awaitsWrites(on: 1))
    scene.join(2)
    #expect(scene.answerAll().map(\.block) == [1, 0, 2])
    #expect(scene.unanswered == 0)
  }
}
