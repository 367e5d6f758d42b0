/// What each state does with each event. No `default`: a new state or event is a compile error wherever a decision
/// is missing.
extension Lifecycle {
  mutating func handleStopped(_ event: Event) -> [Effect] {
    switch event {
    case .start: return connect()
    case .adopted(isAlive: true):
      become(.attached(Binding(generation: newGeneration(), standing: .settled)))
      return []
    case .adopted(isAlive: false):
      let (attempt, effect) = newAttempt(number: 1, previous: nil)
      return [effect] + hold(.trying(attempt))
    case .stop, .handOver, .renew, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .answered, .released,
      .timerFired:
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
    case .start, .adopted, .renew, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .answered, .released,
      .timerFired:
      return []
    }
  }

  mutating func handle(_ event: Event, attached binding: Binding) -> [Effect] {
    switch event {
    case .linksLost(binding.generation, let remaining, let holdsIO, let failure):
      return [.cancelTimer(binding.settleTimer)]
        + lose(binding, remaining: remaining, holdsIO: holdsIO, failure)
    case .answered(binding.generation):
      become(.attached(binding.answered))
      return forgetOutage(binding)
    case .stop:
      return [.cancelTimer(binding.settleTimer)] + forgetOutage(binding) + detach()
    case .timerFired(binding.settleTimer):
      backoff.reset()
      become(.attached(binding.settled))
      return forgetOutage(binding)
    case .timerFired(Lifecycle.holdTimer):
      become(.attached(binding.overdue))
      return []
    case .handOver:
      return [.cancelTimer(binding.settleTimer)] + forgetOutage(binding) + letGo()
    case .renew:
      let attempt = Attempt(generation: newGeneration(), number: 1, previous: nil)
      become(.degraded(binding, .trying(attempt)))
      return [.cancelTimer(binding.settleTimer), .renew(attempt.generation)]
    case .start, .adopted, .retry, .attemptSucceeded, .attemptFailed, .linksLost, .answered, .released, .timerFired:
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
          return forgetOutage(binding)
        case .pausing(let pause):
          return [.cancelTimer(pause.timer)] + forgetOutage(binding)
            + connect(number: pause.attempts + 1, previous: failure)
        }
      }
      return hold(repair, after: binding)
    case .answered(binding.generation):
      become(.degraded(binding.answered, repair))
      return forgetOutage(binding)
    case .timerFired(Lifecycle.holdTimer):
      become(.degraded(binding.overdue, repair))
      return []
    case .attemptSucceeded(let generation):
      guard case .trying(let attempt) = repair, attempt.generation == generation else { return [] }
      return bind(generation, binding.standing == .settled ? .new : binding.standing)
    case .attemptFailed(let generation, _) where repair.isRenewal(generation):
      // Nothing was lost: the old links are as good as before.
      become(.attached(binding.settled))
      return forgetOutage(binding)
    case .linksLost, .answered, .start, .adopted, .renew: return []
    case .stop: return forgetOutage(binding) + leave(repair, .release)
    case .handOver: return forgetOutage(binding) + leave(repair, .handOver)
    case .retry, .timerFired, .attemptFailed:
      return advance(repair, with: event) { .degraded(binding, $0) }
    case .released: return []
    }
  }

  mutating func handle(_ event: Event, reconnecting repair: Repair) -> [Effect] {
    switch event {
    case .stop: return [.cancelTimer(Lifecycle.holdTimer)] + leave(repair, .release)
    case .handOver: return [.cancelTimer(Lifecycle.holdTimer)] + leave(repair, .handOver)
    case .timerFired(Lifecycle.holdTimer): return stopHolding(repair)
    case .attemptSucceeded(let generation):
      guard case .trying(let attempt) = repair, attempt.generation == generation else { return [] }
      // A link alone is no end of the outage: a server may take it only to drop it at the first request.
      guard reconnectTimeout == nil else { return bind(generation, .returned) }
      return [.cancelTimer(Lifecycle.holdTimer)] + bind(generation)
    case .retry, .timerFired, .attemptFailed:
      return advance(repair, with: event) { .reconnecting($0) }
    case .start, .adopted, .renew, .linksLost, .answered, .released: return []
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
    case .start, .adopted, .renew, .attemptSucceeded, .attemptFailed, .linksLost, .answered, .released,
      .timerFired:
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
      (_, .renew), (_, .retry), (_, .linksLost), (_, .answered), (_, .timerFired):
      return []
    }
  }

  /// The one timer of the reconnect-timeout: it spans all attempts of one outage, so it has no generation of its own. It
  /// goes on with links that were made since, until they have settled or carried I/O.
  package static let holdTimer = Timer(purpose: .reconnectTimeout, generation: 0)

  /// An outage is under way, for which the reconnect-timeout counts.
  package var isInOutage: Bool {
    switch state {
    case .reconnecting: true
    case .attached(let binding), .degraded(let binding, _): [.returned, .overdue].contains(binding.standing)
    case .stopped, .connecting, .waiting, .detaching, .failed: false
    }
  }

  /// Counts at once, also for an outage that has lasted for `elapsed`; not for I/O that has failed already. `nil`: infinity.
  package mutating func changeReconnectTimeout(to timeout: Duration?, elapsed: Duration) -> [Effect] {
    guard timeout != reconnectTimeout else { return [] }
    var isCounting = reconnectTimeout != nil
    reconnectTimeout = timeout
    guard isInOutage else { return [] }
    let left = timeout.map { max($0 - elapsed, .zero) }
    switch state {
    case .attached(let binding):
      isCounting = binding.standing == .returned
      become(.attached(binding.allowed(left)))
    case .degraded(let binding, let repair):
      isCounting = binding.standing == .returned
      become(.degraded(binding.allowed(left), repair))
    case .stopped, .connecting, .reconnecting, .waiting, .detaching, .failed: break
    }
    let effects: [Effect] = isCounting ? [.cancelTimer(Lifecycle.holdTimer)] : []
    return effects + (left.map { [.startTimer(Lifecycle.holdTimer, $0)] } ?? [])
  }

  private mutating func lose(_ binding: Binding, remaining: Int, holdsIO: Bool, _ failure: Failure) -> [Effect] {
    // After a link that lasted the first try is at once; after one that did not, the back-off goes on.
    let limit = remaining > 0 || holdsIO ? Lifecycle.longestPauseWhileHolding : nil
    let (repair, effect) = beginRepair(atOnce: binding.standing == .settled, failure, limit: limit)
    if remaining > 0 {
      become(.degraded(binding, repair))
      return [effect]
    }
    if holdsIO { return [effect] + hold(repair, after: binding) }
    goOn(repair)
    return [effect] + forgetOutage(binding)
  }

  /// The last link is lost, and I/O is held: from now on, or still.
  private mutating func hold(_ repair: Repair, after binding: Binding) -> [Effect] {
    switch binding.standing {
    case .settled, .new: return hold(repair)
    case .returned:
      become(.reconnecting(repair))
      return []
    case .overdue: return stopHolding(repair)
    }
  }

  private mutating func stopHolding(_ repair: Repair) -> [Effect] {
    goOn(repair)
    return [.stopHoldingIO]
  }

  /// Tries on while no I/O is held.
  private mutating func goOn(_ repair: Repair) {
    switch repair {
    case .trying(let attempt): become(.connecting(attempt))
    case .pausing(let pause): become(pause.failure.advice == .giveUp ? .failed(pause) : .waiting(pause))
    }
  }

  /// The outage that the binding came after is over, or is nobody's matter any more.
  private func forgetOutage(_ binding: Binding) -> [Effect] {
    binding.standing == .returned ? [.cancelTimer(Lifecycle.holdTimer)] : []
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

extension Lifecycle.Binding {
  fileprivate var settled: Lifecycle.Binding { Lifecycle.Binding(generation: generation, standing: .settled) }

  fileprivate var answered: Lifecycle.Binding {
    switch standing {
    case .settled, .new: self
    case .returned, .overdue: Lifecycle.Binding(generation: generation, standing: .new)
    }
  }

  /// So much is left of the reconnect-timeout of the outage that it came after; `nil`: it has no end but links.
  fileprivate func allowed(_ left: Duration?) -> Lifecycle.Binding {
    Lifecycle.Binding(generation: generation, standing: left == nil ? .new : .returned)
  }

  /// The reconnect-timeout has passed; of no matter where no outage is left.
  fileprivate var overdue: Lifecycle.Binding {
    switch standing {
    case .settled, .new, .overdue: self
    case .returned: Lifecycle.Binding(generation: generation, standing: .overdue)
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
