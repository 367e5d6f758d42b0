import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct FlushPaceTests {
  private static let limits = LedgerLimits(unflushedBytes: 64 << 20)

  /// Writes a MiB at a time, each answered after `write` nanoseconds, until a FLUSH of our own goes out, which is answered
  /// after `flush` nanoseconds. Gives how many MiB it covered.
  private func fill(_ scene: Scene, write: UInt64, flush: UInt64, error: UInt32 = 0) -> Int {
    for written in 1...200 as ClosedRange<UInt64> {
      scene.write(1000 + written, at: written * 256, blocks: 256)
      for transmission in scene.sent() {
        scene.now += write
        scene.reply(transmission)
      }
      guard let own = scene.sent().first else { continue }
      scene.now += flush
      #expect(scene.reply(own, error: error) == .swallowed)
      return Int(written)
    }
    return 0
  }

  private func scene() -> Scene {
    let scene = Scene(FlushPaceTests.limits)
    scene.join(1)
    return scene
  }

  @Test("where FLUSHes take no longer than writes, they come early after some have shown it")
  func cheap() {
    let scene = scene()
    let covered = (0..<6).map { _ in fill(scene, write: 100_000, flush: 110_000) }
    #expect(covered == [32, 32, 32, 32, 8, 8])
  }

  @Test("a server with a disk is asked at half of the limit, whatever its writes take", arguments: [20_000, 5_000_000])
  func dear(write: UInt64) {
    let scene = scene()
    let covered = (0..<12).map { _ in fill(scene, write: write, flush: 15_000_000) }
    #expect(covered.allSatisfy { $0 == 32 })
  }

  @Test("what is slow for all, as a long way is, says nothing against FLUSHes")
  func far() {
    let scene = scene()
    let covered = (0..<5).map { _ in fill(scene, write: 50_000_000, flush: 50_100_000) }
    #expect(covered == [32, 32, 32, 32, 8])
  }

  @Test("one that is very dear ends it at once, one that is somewhat dear only if others are")
  func backOff() {
    let scene = scene()
    for _ in 0..<12 { _ = fill(scene, write: 1_000_000, flush: 1_000_000) }
    // 7 ms to fill, of which 2 % are 0.14 ms.
    #expect(fill(scene, write: 1_000_000, flush: 1_500_000) == 8)
    #expect(fill(scene, write: 1_000_000, flush: 1_500_000) == 8)
    #expect(fill(scene, write: 1_000_000, flush: 1_000_000) == 32)
    for _ in 0..<12 { _ = fill(scene, write: 1_000_000, flush: 1_000_000) }
    #expect(fill(scene, write: 1_000_000, flush: 9_000_000) == 8)
    #expect(fill(scene, write: 1_000_000, flush: 1_000_000) == 32)
  }

  @Test("another server has to show it anew, and so has one that fails")
  func anew() {
    let scene = scene()
    for _ in 0..<6 { _ = fill(scene, write: 100_000, flush: 100_000) }
    #expect(fill(scene, write: 100_000, flush: 100_000, error: 5) == 8)
    scene.ledger.tick(now: scene.now)
    // With the 8 that are still kept.
    #expect(fill(scene, write: 100_000, flush: 100_000) == 24)
    for _ in 0..<6 { _ = fill(scene, write: 100_000, flush: 100_000) }
    scene.lose(1)
    scene.join(2)
    #expect(fill(scene, write: 100_000, flush: 100_000) == 32)
  }

  @Test("a log that is flushed for its age says nothing of how soon it could be")
  func age() {
    let scene = scene()
    for round in 0..<10 as Range<UInt64> {
      scene.write(round, at: 0)
      scene.answerAll()
      scene.now += RelayLedger.oldestUnflushed
      scene.ledger.tick(now: scene.now)
      #expect(scene.answerAll().map(\.command) == [.flush])
    }
    #expect(fill(scene, write: 100_000, flush: 100_000) == 32)
  }

  @Test("a limit of which half is less than an early FLUSH covers is obeyed as ever")
  func smallLimit() {
    let scene = Scene(LedgerLimits(unflushedBytes: 4 << 20))
    scene.join(1)
    let covered = (0..<8).map { _ in fill(scene, write: 100_000, flush: 100_000) }
    #expect(covered.allSatisfy { $0 == 2 })
  }
}
