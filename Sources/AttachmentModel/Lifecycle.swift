/// The life of one attachment as a machine: events in, effects out, no I/O, no clock.
///
/// The worker carries effects out. Each effect that waits ends in exactly one event with the same generation; events
/// of an older generation, and timers that are no longer set, change nothing.
package struct Lifecycle: Equatable, Sendable {
  /// Counts attempts and detachments; an answer of an older one is stale.
  package typealias Generation = UInt64

  package enum State: Equatable, Sendable {
    /// Nothing runs and no device is bound. Can become: `connecting`.
    case stopped
    /// Links are being made and bound for the first time, or again for a device that holds no I/O.
    /// Can become: `attached`, `waiting`, `failed`, `detaching`.
    case connecting(Attempt)
    /// Every link is up. Can become: `degraded`, `reconnecting`, `connecting`, `waiting`, `detaching`.
    case attached(Binding)
    /// I/O flows on the links that are up while others are made: some of several are lost, or (an attempt without a
    /// failure before it) all are renewed. Can become: `attached`, `reconnecting`, `connecting`, `detaching`.
    case degraded(Binding, Repair)
    /// No link is left; the device exists and its I/O is held. Can become: `attached`, `connecting`, `waiting`,
    /// `detaching`.
    case reconnecting(Repair)
    /// The next try is due when a timer fires. Can become: `connecting`, `detaching`.
    case waiting(Pause)
    /// On the way to `stopped` (or, when started again meanwhile, to `connecting`).
    case detaching(Departure)
    /// Can't succeed without a change; tried again, but slowly. Can become: `connecting`, `detaching`.
    case failed(Pause)
  }

  /// One try at connecting, negotiating and binding.
  package struct Attempt: Equatable, Sendable {
    package let generation: Generation
    /// 1 for the first since the last success.
    package let number: Int
    /// Why the one before failed, or why the link was lost.
    package let previous: Failure?
  }

  /// A device with at least one link.
  package struct Binding: Equatable, Sendable {
    /// Of the attempt that made its newest link.
    package let generation: Generation
    package let standing: Standing
  }

  /// How much a binding can be relied on.
  package enum Standing: Equatable, Sendable {
    /// It has lasted long enough for the next loss to count as the first one. Can become: `new`, with newer links.
    case settled
    /// It has not yet. Can become: `settled`.
    case new
    /// It has not yet, and nothing was answered since the outage that it came after: the reconnect-timeout goes on.
    /// Can become: `settled`, `new`, `overdue`.
    case returned
    /// As `returned`, and the reconnect-timeout has passed: with the next loss I/O is held no longer.
    /// Can become: `settled`, `new`.
    case overdue
  }

  /// The way back to all links while the device lives on.
  package enum Repair: Equatable, Sendable {
    case trying(Attempt)
    case pausing(Pause)
  }

  package struct Pause: Equatable, Sendable {
    /// Of the timer that ends it.
    package let generation: Generation
    /// Tries since the last success.
    package let attempts: Int
    package let failure: Failure
  }

  package enum Departure: Equatable, Sendable {
    /// An attempt was cancelled but has not answered yet; only then the device can be let go.
    case awaitingAttempt(Generation, Sequel)
    case awaitingRelease(Generation, startAgain: Bool)
    /// The device is being left to the kernel: what is under way on it is brought to its end first. `shown` is what is
    /// reported meanwhile, because nothing is detached.
    case awaitingHandOver(Generation, shown: AttachmentReport.State)
  }

  /// What follows once the attempt has answered.
  package enum Sequel: Equatable, Sendable {
    case release
    case releaseAndStartAgain
    /// The device stays in the kernel.
    case handOver
  }

  package enum Event: Equatable, Sendable {
    case start
    /// A device of a former process was taken over; `isAlive`: its links are up, else its I/O is held.
    case adopted(isAlive: Bool)
    case stop
    /// This process ends, and the next one takes the device over: nothing is detached.
    case handOver
    /// Make new links in place of those that are up, as for a certificate or a size that has changed.
    case renew
    /// Try now: the operator, a reload or the network says that it may work.
    case retry
    case attemptSucceeded(Generation)
    case attemptFailed(Generation, Failure)
    /// `generation` is that of the attempt that made the links. `holdsIO`: the device lives on and makes I/O wait.
    case linksLost(Generation, remaining: Int, holdsIO: Bool, Failure)
    /// I/O flows: since the last outage a request was answered. `generation` as for `linksLost`, before which it is to be
    /// told at the latest.
    case answered(Generation)
    case released(Generation)
    case timerFired(Timer)
  }

  package enum Effect: Equatable, Sendable {
    /// Connect, negotiate, compare and bind; ends in `attemptSucceeded` or `attemptFailed`.
    case attempt(Generation)
    /// The same for links that take the place of those that are up; ends in the same events.
    case renew(Generation)
    /// Hurry the attempt up; it still ends in its one event.
    case cancelAttempt(Generation)
    /// Let the device go, where there is one; ends in `released`.
    case detach(Generation)
    /// Bring what is under way to its end, and leave the device to the kernel; ends in `released`.
    case letGo(Generation)
    case startTimer(Timer, Duration)
    case cancelTimer(Timer)
    /// The reconnect-timeout has passed: waiting I/O fails from now on.
    case stopHoldingIO
  }

  /// Ends in `timerFired` with itself unless cancelled first.
  package struct Timer: Hashable, Sendable {
    package enum Purpose: Hashable, Sendable {
      case retry
      case settle
      case reconnectTimeout
    }

    package let purpose: Purpose
    package let generation: Generation
  }

  /// A link that is lost sooner than this after it was made does not reset the back-off: a server that takes
  /// connections only to drop them is not called in a tight loop.
  package static let settlingTime: Duration = .seconds(5)
  /// While I/O waits no pause is longer.
  package static let longestPauseWhileHolding: Duration = .milliseconds(500)
  /// A failure that needs a change is tried again about this often, or at `retry.maximum` if that is longer.
  package static let slowRetry: Duration = .seconds(30)

  package private(set) var state = State.stopped
  package var backoff: Backoff
  /// `nil`: infinity.
  package internal(set) var reconnectTimeout: Duration?
  private var generation: Generation = 0

  package init(retry: RetryPolicy, reconnectTimeout: Duration?, seed: UInt64) {
    backoff = Backoff(policy: retry, seed: seed)
    self.reconnectTimeout = reconnectTimeout
  }

  package mutating func handle(_ event: Event) -> [Effect] {
    switch state {
    case .stopped: handleStopped(event)
    case .connecting(let attempt): handle(event, connecting: attempt)
    case .attached(let binding): handle(event, attached: binding)
    case .degraded(let binding, let repair): handle(event, degraded: binding, repair)
    case .reconnecting(let repair): handle(event, reconnecting: repair)
    case .waiting(let pause), .failed(let pause): handle(event, pausing: pause)
    case .detaching(let departure): handle(event, detaching: departure)
    }
  }

  // Small moves that several states share.

  mutating func newGeneration() -> Generation {
    generation += 1
    return generation
  }

  mutating func become(_ state: State) { self.state = state }

  /// Begins a try; the caller says in which state.
  mutating func newAttempt(number: Int, previous: Failure?) -> (Attempt, Effect) {
    let attempt = Attempt(generation: newGeneration(), number: number, previous: previous)
    return (attempt, .attempt(attempt.generation))
  }

  /// Begins a pause before the next try; the caller says in which state.
  mutating func newPause(attempts: Int, _ failure: Failure, limit: Duration? = nil) -> (Pause, Effect) {
    let pause = Pause(generation: newGeneration(), attempts: attempts, failure: failure)
    let length =
      switch failure.advice {
      case .retry: backoff.next(limit: limit)
      // While I/O waits even a hopeless failure is tried at the quick pace: an operator is at work on it.
      case .giveUp: backoff.jittered(limit ?? max(Lifecycle.slowRetry, backoff.policy.maximum))
      }
    return (pause, .startTimer(pause.timer, length))
  }

  mutating func connect(number: Int = 1, previous: Failure? = nil) -> [Effect] {
    let (attempt, effect) = newAttempt(number: number, previous: previous)
    state = .connecting(attempt)
    return [effect]
  }

  /// Pauses with no I/O held, in `waiting` or `failed` as the failure advises.
  mutating func pause(attempts: Int, _ failure: Failure) -> [Effect] {
    let (pause, effect) = newPause(attempts: attempts, failure)
    switch failure.advice {
    case .retry: state = .waiting(pause)
    case .giveUp: state = .failed(pause)
    }
    return [effect]
  }

  mutating func bind(_ generation: Generation, _ standing: Standing = .new) -> [Effect] {
    state = .attached(Binding(generation: generation, standing: standing))
    return [.startTimer(Timer(purpose: .settle, generation: generation), Lifecycle.settlingTime)]
  }

  mutating func detach(startAgain: Bool = false) -> [Effect] {
    let generation = newGeneration()
    state = .detaching(.awaitingRelease(generation, startAgain: startAgain))
    return [.detach(generation)]
  }
}

extension Lifecycle.Pause {
  package var timer: Lifecycle.Timer { Lifecycle.Timer(purpose: .retry, generation: generation) }
}

extension Lifecycle.Binding {
  package var settleTimer: Lifecycle.Timer { Lifecycle.Timer(purpose: .settle, generation: generation) }
}
