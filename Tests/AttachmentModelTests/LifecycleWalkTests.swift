import Testing

@testable import AttachmentModel

@Suite("random walks through a lifecycle")
struct LifecycleWalkTests {
  private static let eventsInAWalk = 500

  @Test("what is under way always fits the state, and a stop ends it all", arguments: 1...60 as ClosedRange<UInt64>)
  func walk(seed: UInt64) {
    var random = SplitMix64(state: seed)
    var world = LifecycleWorld(
      retry: RetryPolicy(initial: .milliseconds(100), maximum: .seconds(30)),
      reconnectTimeout: Bool.random(using: &random) ? .seconds(60) : nil, seed: seed)
    var seen: [Lifecycle.Event] = []
    for _ in 0..<Self.eventsInAWalk {
      if Int.random(in: 0..<20, using: &random) == 0 {
        let timeouts: [Duration?] = [nil, .zero, .seconds(5), .seconds(60)]
        world.changeReconnectTimeout(
          to: timeouts.randomElement(using: &random) ?? nil, elapsed: .seconds(Int.random(in: 0...90, using: &random)))
      }
      let event = Self.event(for: world, seen, using: &random)
      let wasHolding = world.state.holdsIO
      for case .startTimer(let timer, let pause) in world.handle(event) where timer.purpose == .retry {
        if wasHolding, world.state.holdsIO { #expect(pause <= .seconds(1)) }
        #expect(pause <= .seconds(30))
      }
      seen.append(event)
      // One look is enough: the first violation is the one to understand.
      guard world.violations.isEmpty else { break }
    }
    #expect(world.violations == [])

    world.handle(.stop)
    while let answer = Self.answer(to: world, using: &random) { world.handle(answer) }
    #expect(world.state == .stopped)
    #expect(world.timers.isEmpty)
    #expect(world.violations == [])
  }

  @Test("the walks come through every state")
  func reach() {
    var reached: Set<AttachmentReport.State> = []
    for seed in 1...20 as ClosedRange<UInt64> {
      var random = SplitMix64(state: seed)
      var world = LifecycleWorld(reconnectTimeout: .seconds(60), seed: seed)
      var seen: [Lifecycle.Event] = []
      for _ in 0..<Self.eventsInAWalk {
        let event = Self.event(for: world, seen, using: &random)
        world.handle(event)
        seen.append(event)
        reached.insert(world.state.reported)
      }
    }
    #expect(reached == Set(AttachmentReport.State.allCases))
  }

  /// Mostly what can come next, sometimes the operator, sometimes an echo of something long past.
  private static func event(
    for world: LifecycleWorld, _ seen: [Lifecycle.Event], using random: inout SplitMix64
  ) -> Lifecycle.Event {
    switch Int.random(in: 0..<20, using: &random) {
    case 0: return .stop
    case 1, 2, 3: return .start
    case 4:
      let operators: [Lifecycle.Event] = [
        .retry, .renew, .handOver, .adopted(isAlive: true), .adopted(isAlive: false),
      ]
      return operators.randomElement(using: &random) ?? .retry
    case 5, 6:
      // Never one that is due once more: the timer of the reconnect-timeout has no generation of its own.
      let echo = seen.randomElement(using: &random)
      if let echo, echo != .timerFired(Lifecycle.holdTimer) { return echo }
      return .retry
    default: break
    }
    var possible = world.timers.keys.sorted { "\($0)" < "\($1)" }.map { Lifecycle.Event.timerFired($0) }
    if let answer = answer(to: world, using: &random) { possible += [answer, answer] }
    if let generation = world.binding {
      possible.append(.answered(generation))
      possible.append(
        .linksLost(
          generation, remaining: Int.random(in: 0...2, using: &random), holdsIO: Bool.random(using: &random), .lost))
    }
    return possible.randomElement(using: &random) ?? .start
  }

  /// The one event in which an effect under way ends.
  private static func answer(to world: LifecycleWorld, using random: inout SplitMix64) -> Lifecycle.Event? {
    if let attempt = world.attempt {
      switch Int.random(in: 0..<4, using: &random) {
      case 0: return .attemptFailed(attempt, .passing)
      case 1: return .attemptFailed(attempt, .hopeless)
      default: return .attemptSucceeded(attempt)
      }
    }
    return world.detachment.map { .released($0) }
  }
}

extension Lifecycle.State {
  /// Somebody waits for I/O, or would if the next link went.
  fileprivate var holdsIO: Bool {
    switch self {
    case .degraded, .reconnecting: true
    case .stopped, .connecting, .attached, .waiting, .detaching, .failed: false
    }
  }
}
