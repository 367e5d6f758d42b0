import Testing

@testable import AttachmentModel

@Suite("transcripts of a lifecycle")
struct LifecycleTranscriptTests {
  typealias Timer = Lifecycle.Timer

  /// No jitter to speak of: an initial pause that is the maximum too would still be drawn from half of it.
  private var world = LifecycleWorld(retry: RetryPolicy(initial: .milliseconds(100), maximum: .seconds(30)))

  private func pause(_ effects: [Lifecycle.Effect]) throws -> (timer: Timer, length: Duration) {
    let pauses = effects.compactMap { effect in
      if case .startTimer(let timer, let length) = effect, timer.purpose == .retry { (timer, length) } else { nil }
    }
    try #require(pauses.count == 1)
    return pauses[0]
  }

  @Test("the straight way: start, attached, settled, stopped")
  mutating func straight() {
    #expect(world.handle(.start) == [.attempt(1)])
    #expect(world.state == .connecting(Lifecycle.Attempt(generation: 1, number: 1, previous: nil)))
    let settle = Timer(purpose: .settle, generation: 1)
    #expect(world.handle(.attemptSucceeded(1)) == [.startTimer(settle, Lifecycle.settlingTime)])
    #expect(world.state == .attached(Lifecycle.Binding(generation: 1, standing: .new)))
    #expect(world.handle(.timerFired(settle)) == [])
    #expect(world.state == .attached(Lifecycle.Binding(generation: 1, standing: .settled)))
    #expect(world.handle(.stop) == [.cancelTimer(settle), .detach(2)])
    #expect(world.handle(.released(2)) == [])
    #expect(world.state == .stopped)
    #expect(world.violations == [])
  }

  @Test("tries are counted, and each knows why the one before failed")
  mutating func counting() throws {
    world.handle(.start)
    for number in 1...5 {
      let attempt = try #require(world.attempt)
      let (timer, length) = try pause(world.handle(.attemptFailed(attempt, .passing)))
      #expect(length <= .milliseconds(100) * (1 << (number - 1)))
      #expect(
        world.state == .waiting(Lifecycle.Pause(generation: timer.generation, attempts: number, failure: .passing)))
      #expect(world.state.attempts == number)
      world.handle(.timerFired(timer))
      #expect(world.state.attempts == number + 1)
      let next = try #require(world.attempt)
      #expect(
        world.state == .connecting(Lifecycle.Attempt(generation: next, number: number + 1, previous: .passing)))
    }
  }

  @Test("a link lost after it has settled is tried again at once, and the back-off starts anew")
  mutating func settledLoss() throws {
    world.handle(.start)
    for _ in 0..<8 {
      let attempt = try #require(world.attempt)
      world.handle(.timerFired(try pause(world.handle(.attemptFailed(attempt, .passing))).timer))
    }
    let attempt = try #require(world.attempt)
    world.handle(.attemptSucceeded(attempt))
    let settle = Timer(purpose: .settle, generation: attempt)
    world.handle(.timerFired(settle))
    let effects = world.handle(.linksLost(attempt, remaining: 0, holdsIO: false, .lost))
    let next = try #require(world.attempt)
    #expect(effects == [.cancelTimer(settle), .attempt(next)])
    #expect(world.state == .connecting(Lifecycle.Attempt(generation: next, number: 1, previous: .lost)))
    #expect(try pause(world.handle(.attemptFailed(next, .passing))).length <= .milliseconds(100))
  }

  @Test("a link lost before it has settled continues the back-off: no tight loop with a server that drops at once")
  mutating func unsettledLoss() throws {
    world.handle(.start)
    var pauses: [Duration] = []
    for _ in 0..<10 {
      let attempt = try #require(world.attempt)
      world.handle(.attemptSucceeded(attempt))
      let (timer, length) = try pause(world.handle(.linksLost(attempt, remaining: 0, holdsIO: false, .lost)))
      pauses.append(length)
      #expect(world.state.reported == .waiting)
      world.handle(.timerFired(timer))
    }
    for (step, pause) in pauses.enumerated() {
      #expect(pause >= min(.milliseconds(50) * (1 << step), .seconds(15)))
    }
    #expect(world.violations == [])
  }

  @Test("a failure that needs a change is `failed`: tried slowly, at once when the operator says so")
  mutating func hopeless() throws {
    world.handle(.start)
    let (timer, length) = try pause(world.handle(.attemptFailed(1, .hopeless)))
    #expect(world.state == .failed(Lifecycle.Pause(generation: timer.generation, attempts: 1, failure: .hopeless)))
    #expect(length >= Lifecycle.slowRetry / 2 && length <= Lifecycle.slowRetry)
    let effects = world.handle(.retry)
    let attempt = try #require(world.attempt)
    #expect(effects == [.cancelTimer(timer), .attempt(attempt)])
    #expect(world.state.attempts == 2)
    world.handle(.attemptSucceeded(attempt))
    #expect(world.state.reported == .attached)
  }

  @Test("the slow pause is no shorter than the longest of the back-off")
  func slowPause() throws {
    var world = LifecycleWorld(retry: RetryPolicy(initial: .seconds(1), maximum: .seconds(600)))
    world.handle(.start)
    #expect(try pause(world.handle(.attemptFailed(1, .hopeless))).length >= .seconds(300))
  }

  @Test("a hopeless failure does not spend the back-off of the passing ones")
  mutating func separatePauses() throws {
    world.handle(.start)
    for _ in 0..<5 {
      let attempt = try #require(world.attempt)
      world.handle(.timerFired(try pause(world.handle(.attemptFailed(attempt, .hopeless))).timer))
    }
    let attempt = try #require(world.attempt)
    #expect(try pause(world.handle(.attemptFailed(attempt, .passing))).length <= .milliseconds(100))
  }

  @Test(
    "while I/O is held no pause is longer than a second, whatever the failure", arguments: [Failure.passing, .hopeless])
  func holding(failure: Failure) throws {
    var world = LifecycleWorld(retry: RetryPolicy(initial: .seconds(10), maximum: .seconds(30)))
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    var (timer, length) = try pause(world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost)))
    #expect(world.state.reported == .reconnecting)
    for _ in 0..<20 {
      #expect(length <= .seconds(1))
      world.handle(.timerFired(timer))
      let attempt = try #require(world.attempt)
      (timer, length) = try pause(world.handle(.attemptFailed(attempt, failure)))
      #expect(world.state.reported == (failure.advice == .retry ? .reconnecting : .failed))
    }
    #expect(world.violations == [])
  }

  @Test("after the reconnect-timeout held I/O fails, and the tries go on")
  func reconnectTimeout() throws {
    var world = LifecycleWorld(reconnectTimeout: .seconds(60))
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    world.handle(.timerFired(Timer(purpose: .settle, generation: 1)))
    let effects = world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))
    let attempt = try #require(world.attempt)
    #expect(effects.contains(.startTimer(Lifecycle.holdTimer, .seconds(60))))
    #expect(world.handle(.timerFired(Lifecycle.holdTimer)) == [.stopHoldingIO])
    #expect(world.state == .connecting(Lifecycle.Attempt(generation: attempt, number: 1, previous: .lost)))
    world.handle(.attemptSucceeded(attempt))
    #expect(world.state.reported == .attached)
    #expect(world.violations == [])
  }

  @Test("the reconnect-timeout spans all tries of an outage, and ends with it")
  func oneOutage() throws {
    var world = LifecycleWorld(reconnectTimeout: .seconds(60))
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    var (timer, _) = try pause(world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost)))
    for _ in 0..<5 {
      world.handle(.timerFired(timer))
      let attempt = try #require(world.attempt)
      let effects = world.handle(.attemptFailed(attempt, .passing))
      #expect(!effects.contains(.startTimer(Lifecycle.holdTimer, .seconds(60))))
      timer = try pause(effects).timer
    }
    world.handle(.retry)
    let attempt = try #require(world.attempt)
    world.handle(.attemptSucceeded(attempt))
    #expect(
      world.handle(.timerFired(Timer(purpose: .settle, generation: attempt))) == [.cancelTimer(Lifecycle.holdTimer)])
    #expect(!world.timers.keys.contains(Lifecycle.holdTimer))
  }

  /// A device whose server has gone, with a first try under way.
  private func outage(reconnectTimeout: Duration) -> LifecycleWorld {
    var world = LifecycleWorld(reconnectTimeout: reconnectTimeout)
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    world.handle(.timerFired(Timer(purpose: .settle, generation: 1)))
    world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))
    return world
  }

  @Test("a server that takes links only to drop them is no end of an outage: the reconnect-timeout goes on")
  func flapping() throws {
    var world = outage(reconnectTimeout: .seconds(60))
    for _ in 0..<5 {
      let attempt = try #require(world.attempt)
      world.handle(.attemptSucceeded(attempt))
      let effects = world.handle(.linksLost(attempt, remaining: 0, holdsIO: true, .lost))
      #expect(!effects.contains(.startTimer(Lifecycle.holdTimer, .seconds(60))))
      #expect(world.state.reported == .reconnecting)
      world.handle(.timerFired(try pause(effects).timer))
    }
    #expect(world.handle(.timerFired(Lifecycle.holdTimer)) == [.stopHoldingIO])
    #expect(world.state.reported == .connecting)
    #expect(world.violations == [])
  }

  @Test("a reconnect-timeout that passes while there is a link takes effect with its loss, unless I/O has flown")
  func overdue() throws {
    for hasAnswered in [false, true] {
      var world = outage(reconnectTimeout: .seconds(60))
      let attempt = try #require(world.attempt)
      world.handle(.attemptSucceeded(attempt))
      #expect(world.handle(.timerFired(Lifecycle.holdTimer)) == [])
      #expect(world.state.reported == .attached)
      if hasAnswered { #expect(world.handle(.answered(attempt)) == []) }
      let effects = world.handle(.linksLost(attempt, remaining: 0, holdsIO: true, .lost))
      #expect(effects.contains(.stopHoldingIO) == !hasAnswered)
      #expect(effects.contains(.startTimer(Lifecycle.holdTimer, .seconds(60))) == hasAnswered)
      #expect(world.state.reported == (hasAnswered ? .reconnecting : .waiting))
      #expect(world.violations == [])
    }
  }

  @Test("a changed reconnect-timeout counts at once for an outage under way, and from its beginning")
  func changedInAnOutage() throws {
    let timer = Lifecycle.holdTimer
    var world = outage(reconnectTimeout: .seconds(60))
    #expect(world.changeReconnectTimeout(to: .seconds(60), elapsed: .seconds(20)) == [])
    let longer = world.changeReconnectTimeout(to: .seconds(90), elapsed: .seconds(20))
    #expect(longer == [.cancelTimer(timer), .startTimer(timer, .seconds(70))])
    #expect(world.changeReconnectTimeout(to: nil, elapsed: .seconds(80)) == [.cancelTimer(timer)])
    let passed = world.changeReconnectTimeout(to: .seconds(30), elapsed: .seconds(100))
    #expect(passed == [.startTimer(timer, .zero)])
    #expect(world.handle(.timerFired(timer)) == [.stopHoldingIO])
    // I/O has failed: there is nothing to wait for any more.
    #expect(world.changeReconnectTimeout(to: nil, elapsed: .zero) == [])
    #expect(world.violations == [])
  }

  @Test("so it does while links are there that have not shown yet that the outage is over", arguments: [false, true])
  func changedAfterReturn(isOverdue: Bool) throws {
    let timer = Lifecycle.holdTimer
    for timeout: Duration? in [nil, .seconds(300)] {
      var world = outage(reconnectTimeout: .seconds(60))
      let attempt = try #require(world.attempt)
      world.handle(.attemptSucceeded(attempt))
      if isOverdue { world.handle(.timerFired(timer)) }
      let effects = world.changeReconnectTimeout(to: timeout, elapsed: .seconds(100))
      #expect(effects.contains(.startTimer(timer, .seconds(200))) == (timeout != nil))
      #expect(effects.contains(.cancelTimer(timer)) == !isOverdue)
      world.handle(.linksLost(attempt, remaining: 0, holdsIO: true, .lost))
      #expect(world.state.reported == .reconnecting)
      #expect(world.violations == [])
    }
  }

  @Test("links that are lost one after the other end no outage either")
  func flappingLinks() throws {
    var world = outage(reconnectTimeout: .seconds(60))
    let attempt = try #require(world.attempt)
    world.handle(.attemptSucceeded(attempt))
    world.handle(.linksLost(attempt, remaining: 1, holdsIO: true, .lost))
    #expect(world.state.reported == .degraded)
    #expect(world.handle(.linksLost(attempt, remaining: 0, holdsIO: true, .lost)) == [])
    #expect(world.handle(.timerFired(Lifecycle.holdTimer)) == [.stopHoldingIO])
    #expect(world.violations == [])
  }

  @Test("with a hopeless failure pending, the reconnect-timeout leads to `failed`")
  func hopelessOutage() throws {
    var world = LifecycleWorld(reconnectTimeout: .seconds(60))
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    world.handle(.timerFired(try pause(world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))).timer))
    let attempt = try #require(world.attempt)
    world.handle(.attemptFailed(attempt, .hopeless))
    world.handle(.timerFired(Lifecycle.holdTimer))
    #expect(world.state.reported == .failed)
  }

  @Test("some links lost: I/O flows on the rest, and losing those too makes it wait")
  mutating func degraded() throws {
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    world.handle(.timerFired(Timer(purpose: .settle, generation: 1)))
    world.handle(.linksLost(1, remaining: 3, holdsIO: true, .lost))
    #expect(world.state.reported == .degraded)
    #expect(world.machine.isBound(1))
    let attempt = try #require(world.attempt)
    world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))
    #expect(world.state.reported == .reconnecting)
    #expect(world.attempt == attempt)
    world.handle(.attemptSucceeded(attempt))
    #expect(world.state.reported == .attached)
    #expect(world.machine.isBound(attempt) && !world.machine.isBound(1))
  }

  @Test("a stop waits for the attempt under way, whose device would else be left behind", arguments: [true, false])
  func stopWhileConnecting(succeeds: Bool) {
    var world = LifecycleWorld()
    world.handle(.start)
    #expect(world.handle(.stop) == [.cancelAttempt(1)])
    #expect(world.handle(.stop) == [])
    #expect(world.handle(succeeds ? .attemptSucceeded(1) : .attemptFailed(1, .passing)) == [.detach(2)])
    world.handle(.released(2))
    #expect(world.state == .stopped)
  }

  @Test("a start while it detaches starts again, a second stop takes that back")
  mutating func startAgain() {
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    world.handle(.stop)
    world.handle(.start)
    #expect(world.handle(.released(2)) == [.attempt(3)])
    world.handle(.stop)
    world.handle(.start)
    world.handle(.stop)
    #expect(world.handle(.attemptFailed(3, .passing)) == [.detach(4)])
    #expect(world.handle(.released(4)) == [])
    #expect(world.state == .stopped)
  }
}
