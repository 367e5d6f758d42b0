import Testing

@testable import AttachmentModel

/// A lifecycle with the effects it has asked for: what a worker would have under way. With each event it checks that
/// state and effects fit together, whatever the event.
struct LifecycleWorld {
  private(set) var machine: Lifecycle
  private(set) var attempt: Lifecycle.Generation?
  private(set) var detachment: Lifecycle.Generation?
  private(set) var timers: [Lifecycle.Timer: Duration] = [:]
  /// The newest generation of all.
  private(set) var newest: Lifecycle.Generation = 0
  /// What broke a rule, in words.
  private(set) var violations: [String] = []

  var state: Lifecycle.State { machine.state }

  /// Of the links that are up.
  var binding: Lifecycle.Generation? {
    switch state {
    case .attached(let binding), .degraded(let binding, _): binding.generation
    case .stopped, .connecting, .reconnecting, .waiting, .detaching, .failed: nil
    }
  }

  init(retry: RetryPolicy = RetryPolicy(), reconnectTimeout: Duration? = nil, seed: UInt64 = 1) {
    machine = Lifecycle(retry: retry, reconnectTimeout: reconnectTimeout, seed: seed)
  }

  @discardableResult
  mutating func handle(_ event: Lifecycle.Event) -> [Lifecycle.Effect] {
    let before = machine
    let isStale = !answers(event)
    let effects = machine.handle(event)
    if isStale, before != machine || !effects.isEmpty { complain(event, "is stale and had an effect") }
    for effect in effects { take(effect, after: event) }
    checkState(after: event)
    return effects
  }

  @discardableResult
  mutating func changeReconnectTimeout(to timeout: Duration?, elapsed: Duration) -> [Lifecycle.Effect] {
    let effects = machine.changeReconnectTimeout(to: timeout, elapsed: elapsed)
    for effect in effects { take(effect, after: .retry) }
    checkState(after: .retry)
    return effects
  }

  /// Whether the event is one that may change something; notes that what it answers is no longer under way.
  private mutating func answers(_ event: Lifecycle.Event) -> Bool {
    switch event {
    case .start, .adopted, .stop, .handOver, .renew, .retry: return true
    case .attemptSucceeded(let generation), .attemptFailed(let generation, _):
      guard attempt == generation else { return false }
      attempt = nil
      return true
    case .released(let generation):
      guard detachment == generation else { return false }
      detachment = nil
      return true
    case .linksLost(let generation, _, _, _), .answered(let generation): return binding == generation
    case .timerFired(let timer): return timers.removeValue(forKey: timer) != nil
    }
  }

  private mutating func take(_ effect: Lifecycle.Effect, after event: Lifecycle.Event) {
    switch effect {
    case .attempt(let generation), .renew(let generation):
      if attempt != nil || detachment != nil { complain(event, "began an attempt beside another effect") }
      checkAge(of: generation, after: event)
      attempt = generation
    case .cancelAttempt(let generation):
      if attempt != generation { complain(event, "cancelled an attempt that is not under way") }
    case .detach(let generation):
      if attempt != nil || detachment != nil { complain(event, "detached beside another effect") }
      checkAge(of: generation, after: event)
      detachment = generation
    case .startTimer(let timer, let duration):
      if timers.keys.contains(where: { $0.purpose == timer.purpose }) {
        complain(event, "started a second \(timer.purpose) timer")
      }
      if duration < .zero { complain(event, "started a timer of \(duration)") }
      if timer.purpose != .reconnectTimeout, timer.generation > newest { newest = timer.generation }
      timers[timer] = duration
    case .cancelTimer(let timer): timers[timer] = nil
    case .letGo(let generation):
      if attempt != nil || detachment != nil { complain(event, "let go beside another effect") }
      checkAge(of: generation, after: event)
      detachment = generation
    case .stopHoldingIO: break
    }
  }

  private mutating func checkAge(of generation: Lifecycle.Generation, after event: Lifecycle.Event) {
    if generation <= newest { complain(event, "began something with the old generation \(generation)") }
    newest = max(newest, generation)
  }

  /// What is under way is what the state says, no less and no more.
  private mutating func checkState(after event: Lifecycle.Event) {
    var expected = Outstanding()
    switch state {
    case .stopped: break
    case .connecting(let attempt): expected.attempt = attempt.generation
    case .attached(let binding):
      if binding.standing != .settled { expected.timers = [binding.settleTimer] }
      if binding.standing == .returned { expected.timers.insert(Lifecycle.holdTimer) }
    case .degraded(let binding, let repair):
      expected.take(repair)
      if binding.standing == .returned { expected.timers.insert(Lifecycle.holdTimer) }
    case .reconnecting(let repair):
      expected.take(repair)
      if machine.reconnectTimeout != nil { expected.timers.insert(Lifecycle.holdTimer) }
    case .waiting(let pause), .failed(let pause): expected.timers = [pause.timer]
    case .detaching(.awaitingAttempt(let generation, _)): expected.attempt = generation
    case .detaching(.awaitingRelease(let generation, _)), .detaching(.awaitingHandOver(let generation, _)):
      expected.detachment = generation
    }
    let actual = Outstanding(attempt: attempt, detachment: detachment, timers: Set(timers.keys))
    if actual != expected { complain(event, "left \(actual) under way, where the state means \(expected)") }
  }

  private mutating func complain(_ event: Lifecycle.Event, _ problem: String) {
    violations.append("\(event) \(problem); now \(state)")
  }

  private struct Outstanding: Equatable {
    var attempt: Lifecycle.Generation?
    var detachment: Lifecycle.Generation?
    var timers: Set<Lifecycle.Timer> = []

    mutating func take(_ repair: Lifecycle.Repair) {
      switch repair {
      case .trying(let attempt): self.attempt = attempt.generation
      case .pausing(let pause): timers = [pause.timer]
      }
    }
  }
}

extension Failure {
  static let passing = Failure(.connecting, "refused", advice: .retry)
  static let hopeless = Failure(.negotiating, "no such export", advice: .giveUp)
  static let lost = Failure(.serving, "lost", advice: .retry)
}
