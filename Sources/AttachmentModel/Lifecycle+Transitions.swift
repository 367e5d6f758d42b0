/// What each state does with each event. No `default`: a new state or event is a compile error wherever a decision
/// is missing.
extension Lifecycle {
  mutating func handleStopped(_ event: Event) -> [Effect] {
    switch event {
    case .start: return connect()
    case .adopted(isAlive: true):
      become(.attached(Binding(generation: newGeneration(), hasSettled: true)))
      return []
    case .adopted(isAlive: false):
      let (attempt, effect) = newAttempt(number: 1, previous: nil)
      return [effect] + hold(.trying(attempt))
    case .stop, .handOver, .renew, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired:
      return []
    }
  }

  mutating func handle(_ event: Event, connecting attempt: Attempt) -> [Effect] {
    switch event {
    case .attemptSucceeded(attempt.generation):
      return bind(attempt.generation)
    case .attemptFailed(attempt.generation, let failure):
      return pause(attempts: attempt.number, failure)
    case .stop: return leave(.trying(attempt), .release)
    case .handOver: return leave(.trying(attempt), .handOver)
    case .start, .adopted, .renew, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired:
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
    case .handOver:
      return [.cancelTimer(binding.settleTimer)] + letGo()
    case .renew:
      let attempt = Attempt(generation: newGeneration(), number: 1, previous: nil)
      become(.degraded(binding, .trying(attempt)))
      return [.cancelTimer(binding.settleTimer), .renew(attempt.generation)]
    case .start, .adopted, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired:
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
    case .attemptFailed(let generation, _) where repair.isRenewal(generation):
      // Nothing was lost: the old links are as good as before.
      become(.attached(Binding(generation: binding.generation, hasSettled: true)))
      return []
    case .linksLost, .start, .adopted, .renew: return []
    case .stop: return leave(repair, .release)
    case .handOver: return leave(repair, .handOver)
    case .retry, .timerFired, .attemptSucceeded, .attemptFailed:
      return advance(repair, with: event) { .degraded(binding, $0) }
    case .released: return []
    }
  }

  mutating func handle(_ event: Event, reconnecting repair: Repair) -> [Effect] {
    switch event {
    case .stop: return [.cancelTimer(Lifecycle.holdTimer)] + leave(repair, .release)
    case .handOver: return [.cancelTimer(Lifecycle.holdTimer)] + leave(repair, .handOver)
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
    case .start, .adopted, .renew, .linksLost, .released: return []
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
    case .handOver:
      return [.cancelTimer(pause.timer)] + letGo()
    case .start, .adopted, .renew, .attemptSucceeded, .attemptFailed, .linksLost, .released, .timerFired:
      return []
    }
  }

  mutating func handle(_ event: Event, detaching departure: Departure) -> [Effect] {
    switch (departure, event) {
    case (.awaitingAttempt(let expected, let sequel), .attemptSucceeded(let generation)),
      (.awaitingAttempt(let expected, let sequel), .attemptFailed(let generation, _)):
      guard expected == generation else { return [] }
      switch sequel {
      case .release: return detach()
      case .releaseAndStartAgain: return detach(startAgain: true)
      case .handOver: return letGo()
      }
    case (.awaitingRelease(let expected, let startAgain), .released(let generation)):
      guard expected == generation else { return [] }
      become(.stopped)
      return startAgain ? connect() : []
    case (.awaitingAttempt(let generation, let sequel), .start):
      // Whoever hands over ends: there is nothing to start again.
      if sequel == .release { become(.detaching(.awaitingAttempt(generation, .releaseAndStartAgain))) }
      return []
    case (.awaitingAttempt(let generation, let sequel), .stop):
      if sequel == .releaseAndStartAgain { become(.detaching(.awaitingAttempt(generation, .release))) }
      return []
    case (.awaitingHandOver(let expected, _), .released(let generation)):
      guard expected == generation else { return [] }
      become(.stopped)
      return []
    case (.awaitingRelease(let generation, _), .start):
      become(.detaching(.awaitingRelease(generation, startAgain: true)))
      return []
    case (.awaitingRelease(let generation, _), .stop), (.awaitingRelease(let generation, _), .handOver):
      become(.detaching(.awaitingRelease(generation, startAgain: false)))
      return []
    case (.awaitingAttempt, .handOver), (.awaitingAttempt, .released), (.awaitingRelease, .attemptSucceeded),
      (.awaitingRelease, .attemptFailed), (.awaitingHandOver, .attemptSucceeded), (.awaitingHandOver, .attemptFailed),
      // Whoever hands over ends.
      (.awaitingHandOver, .start), (.awaitingHandOver, .stop), (.awaitingHandOver, .handOver), (_, .adopted),
      (_, .renew), (_, .retry), (_, .linksLost), (_, .timerFired):
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

  /// Stops or hands over while links are being made.
  private mutating func leave(_ repair: Repair, _ sequel: Sequel) -> [Effect] {
    switch repair {
    case .trying(let attempt):
      become(.detaching(.awaitingAttempt(attempt.generation, sequel)))
      return [.cancelAttempt(attempt.generation)]
    case .pausing(let pause):
      return [.cancelTimer(pause.timer)] + (sequel == .handOver ? letGo() : detach())
    }
  }

  private mutating func letGo() -> [Effect] {
    let (shown, generation) = (state.reported, newGeneration())
    become(.detaching(.awaitingHandOver(generation, shown: shown)))
    return [.letGo(generation)]
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

extension Lifecycle.Repair {
  /// The attempt of this generation renews links that are all up.
  fileprivate func isRenewal(_ generation: Lifecycle.Generation) -> Bool {
    guard case .trying(let attempt) = self else { return false }
    return attempt.generation == generation && attempt.previous == nil
  }
}
