/// What each state does with each event. No `default`: a new state or event is a compile error wherever a decision
/// is missing.
extension Lifecycle {
  mutating func handleStopped(_ event: Event) -> [Effect] {
    switch event {
    case .start: connect()
    case .stop, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired: []
    }
  }

  mutating func handle(_ event: Event, connecting attempt: Attempt) -> [Effect] {
    switch event {
    case .attemptSucceeded(attempt.generation):
      return bind(attempt.generation)
    case .attemptFailed(attempt.generation, let failure):
      return pause(attempts: attempt.number, failure)
    case .stop:
      become(.detaching(.awaitingAttempt(attempt.generation, startAgain: false)))
      return [.cancelAttempt(attempt.generation)]
    case .start, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired:
      return []
    }
  }

  mutating func handle(_ event: Event, attached binding: Binding) -> [Effect] {
    switch event {
    case .linksLost(binding.generation, let remaining, let holdsIO, let failure):
      return [.cancelTimer(binding.settleTimer)]
        + lose(binding, remaining: remaining, holdsIO: holdsIO, failure)
    case .stop:
      return [.cancelTimer(binding.settleTimer)] + detach()
    case .timerFired(binding.settleTimer):
      backoff.reset()
      become(.attached(Binding(generation: binding.generation, hasSettled: true)))
      return []
    case .start, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired:
      return []
    }
  }

  mutating func handle(_ event: Event, degraded binding: Binding, _ repair: Repair) -> [Effect] {
    switch event {
    case .linksLost(binding.generation, 0, let holdsIO, let failure):
      guard holdsIO else {
        switch repair {
        case .trying(let attempt):
          become(.connecting(attempt))
          return []
        case .pausing(let pause):
          return [.cancelTimer(pause.timer)] + connect(number: pause.attempts + 1, previous: failure)
        }
      }
      return hold(repair)
    case .linksLost, .start: return []
    case .stop: return leave(repair)
    case .retry, .timerFired, .attemptSucceeded, .attemptFailed:
      return advance(repair, with: event) { .degraded(binding, $0) }
    case .released: return []
    }
  }

  mutating func handle(_ event: Event, reconnecting repair: Repair) -> [Effect] {
    switch event {
    case .stop: return [.cancelTimer(Lifecycle.holdTimer)] + leave(repair)
    case .timerFired(Lifecycle.holdTimer):
      switch repair {
      case .trying(let attempt): become(.connecting(attempt))
      case .pausing(let pause):
        become(pause.failure.advice == .giveUp ? .failed(pause) : .waiting(pause))
      }
      return [.stopHoldingIO]
    case .attemptSucceeded(let generation):
      guard case .trying(let attempt) = repair, attempt.generation == generation else { return [] }
      return [.cancelTimer(Lifecycle.holdTimer)] + bind(generation)
    case .retry, .timerFired, .attemptFailed:
      return advance(repair, with: event) { .reconnecting($0) }
    case .start, .linksLost, .released: return []
    }
  }

  mutating func handle(_ event: Event, pausing pause: Pause) -> [Effect] {
    switch event {
    case .timerFired(pause.timer):
      return connect(number: pause.attempts + 1, previous: pause.failure)
    case .retry:
      return [.cancelTimer(pause.timer)] + connect(number: pause.attempts + 1, previous: pause.failure)
    case .stop:
      return [.cancelTimer(pause.timer)] + detach()
    case .start, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired:
      return []
    }
  }

  mutating func handle(_ event: Event, detaching departure: Departure) -> [Effect] {
    switch (departure, event) {
    case (.awaitingAttempt(let expected, let startAgain), .attemptSucceeded(let generation)),
      (.awaitingAttempt(let expected, let startAgain), .attemptFailed(let generation, _)):
      return expected == generation ? detach(startAgain: startAgain) : []
    case (.awaitingRelease(let expected, let startAgain), .released(let generation)):
      guard expected == generation else { return [] }
      become(.stopped)
      return startAgain ? connect() : []
    case (.awaitingAttempt(let generation, _), .start):
      become(.detaching(.awaitingAttempt(generation, startAgain: true)))
      return []
    case (.awaitingAttempt(let generation, _), .stop):
      become(.detaching(.awaitingAttempt(generation, startAgain: false)))
      return []
    case (.awaitingRelease(let generation, _), .start):
      become(.detaching(.awaitingRelease(generation, startAgain: true)))
      return []
    case (.awaitingRelease(let generation, _), .stop):
      become(.detaching(.awaitingRelease(generation, startAgain: false)))
      return []
    case (.awaitingAttempt, .released), (.awaitingRelease, .attemptSucceeded), (.awaitingRelease, .attemptFailed),
      (_, .retry), (_, .linksLost), (_, .timerFired):
      return []
    }
  }

  /// The one timer of the reconnect-timeout: it spans all attempts of one outage, so it has no generation of its own.
  package static let holdTimer = Timer(purpose: .reconnectTimeout, generation: 0)

  private mutating func lose(_ binding: Binding, remaining: Int, holdsIO: Bool, _ failure: Failure) -> [Effect] {
    // After a link that lasted the first try is at once; after one that did not, the back-off goes on.
    let limit = remaining > 0 || holdsIO ? Lifecycle.longestPauseWhileHolding : nil
    let (repair, effect) = beginRepair(atOnce: binding.hasSettled, failure, limit: limit)
    if remaining > 0 {
      become(.degraded(binding, repair))
      return [effect]
    }
    if holdsIO { return [effect] + hold(repair) }
    switch repair {
    case .trying(let attempt): become(.connecting(attempt))
    case .pausing(let pause): become(pause.failure.advice == .giveUp ? .failed(pause) : .waiting(pause))
    }
    return [effect]
  }

  private mutating func beginRepair(atOnce: Bool, _ failure: Failure, limit: Duration?) -> (Repair, Effect) {
    if atOnce {
      let (attempt, effect) = newAttempt(number: 1, previous: failure)
      return (.trying(attempt), effect)
    }
    let (pause, effect) = newPause(attempts: 0, failure, limit: limit)
    return (.pausing(pause), effect)
  }

  private mutating func hold(_ repair: Repair) -> [Effect] {
    become(.reconnecting(repair))
    guard let reconnectTimeout else { return [] }
    return [.startTimer(Lifecycle.holdTimer, reconnectTimeout)]
  }

  /// Stops while links are being repaired.
  private mutating func leave(_ repair: Repair) -> [Effect] {
    switch repair {
    case .trying(let attempt):
      become(.detaching(.awaitingAttempt(attempt.generation, startAgain: false)))
      return [.cancelAttempt(attempt.generation)]
    case .pausing(let pause):
      return [.cancelTimer(pause.timer)] + detach()
    }
  }

  /// One step of a repair, in the state that `wrap` makes of it.
  private mutating func advance(_ repair: Repair, with event: Event, _ wrap: (Repair) -> State) -> [Effect] {
    switch (repair, event) {
    case (.trying(let attempt), .attemptSucceeded(let generation)) where attempt.generation == generation:
      return bind(generation)
    case (.trying(let attempt), .attemptFailed(let generation, let failure)) where attempt.generation == generation:
      let (pause, effect) = newPause(attempts: attempt.number, failure, limit: Lifecycle.longestPauseWhileHolding)
      become(wrap(.pausing(pause)))
      return [effect]
    case (.pausing(let pause), .timerFired(let timer)) where pause.timer == timer:
      let (attempt, effect) = newAttempt(number: pause.attempts + 1, previous: pause.failure)
      become(wrap(.trying(attempt)))
      return [effect]
    case (.pausing(let pause), .retry):
      let (attempt, effect) = newAttempt(number: pause.attempts + 1, previous: pause.failure)
      become(wrap(.trying(attempt)))
      return [.cancelTimer(pause.timer), effect]
    case (.trying, _), (.pausing, _):
      return []
    }
  }
}
