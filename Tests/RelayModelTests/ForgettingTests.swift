import Foundation
import Testing

@testable import RelayModel

@Suite struct ForgettingTests {
  /// `RELAY_RUNS` says how many random lives are led, `RELAY_SEED` where they begin, `RELAY_SHOWN` how many of a bad
  /// one's last moments are shown.
  static let runs = ProcessInfo.processInfo.environment["RELAY_RUNS"].flatMap { Int($0) } ?? 2000
  static let shown = ProcessInfo.processInfo.environment["RELAY_SHOWN"].flatMap { Int($0) } ?? 60
  static let seed = ProcessInfo.processInfo.environment["RELAY_SEED"].flatMap { UInt64($0) } ?? 1

  @Test("no acknowledged byte is lost, whatever the server forgets and whenever links come and go")
  func randomLives() {
    for seed in Self.seed..<Self.seed + UInt64(Self.runs) {
      guard live(seed).kernel.violations.isEmpty else {
        let world = live(seed, keepsHistory: true)
        let history = world.history.suffix(Self.shown).joined(separator: "\n")
        Issue.record("seed \(seed): \(world.kernel.violations.first ?? "")\n\(history)")
        return
      }
    }
  }

  private func live(_ seed: UInt64, keepsHistory: Bool = false) -> RandomWorld {
    let world = RandomWorld(seed: seed)
    world.keepsHistory = keepsHistory
    let steps = 20 + world.random.below(300)
    for _ in 0..<steps where world.kernel.violations.isEmpty { world.step() }
    if world.kernel.violations.isEmpty { world.finish() }
    return world
  }
}
