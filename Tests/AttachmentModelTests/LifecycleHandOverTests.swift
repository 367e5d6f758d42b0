import Testing

@testable import AttachmentModel

@Suite("transcripts of devices that outlive a process, and of links that are renewed")
struct LifecycleHandOverTests {
  typealias Timer = Lifecycle.Timer

  private var world = LifecycleWorld(reconnectTimeout: .seconds(60))

  // MARK: Taken over

  @Test("a device with its links is attached at once, and its next loss counts as the first")
  mutating func adopted() throws {
    #expect(world.handle(.adopted(isAlive: true)) == [])
    #expect(world.state == .attached(Lifecycle.Binding(generation: 1, standing: .settled)))
    #expect(world.machine.isBound(1))
    let effects = world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))
    let settle = Timer(purpose: .settle, generation: 1)
    #expect(effects == [.cancelTimer(settle), .attempt(2), .startTimer(Lifecycle.holdTimer, .seconds(60))])
    #expect(world.state == .reconnecting(.trying(Lifecycle.Attempt(generation: 2, number: 1, previous: .lost))))
    #expect(world.violations == [])
  }

  @Test("one without links holds I/O: it is reconnected at once, and the reconnect-timeout counts from now")
  mutating func adoptedDead() throws {
    #expect(
      world.handle(.adopted(isAlive: false)) == [.attempt(1), .startTimer(Lifecycle.holdTimer, .seconds(60))])
    #expect(world.state == .reconnecting(.trying(Lifecycle.Attempt(generation: 1, number: 1, previous: nil))))
    #expect(world.state.reported == .reconnecting)
    world.handle(.attemptSucceeded(1))
    #expect(world.state.reported == .attached)
    #expect(world.handle(.answered(1)) == [.cancelTimer(Lifecycle.holdTimer)])
    #expect(world.violations == [])
  }

  @Test("what runs already is not taken over")
  mutating func adoptedTwice() {
    world.handle(.start)
    let before = world.state
    #expect(world.handle(.adopted(isAlive: true)) == [])
    #expect(world.state == before)
  }

  // MARK: Handed over

  @Test("a device is left as it is, without being detached, and nothing goes on")
  mutating func handOver() {
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    #expect(
      world.handle(.handOver) == [.cancelTimer(Timer(purpose: .settle, generation: 1)), .letGo(2)])
    #expect(world.state.reported == .attached)
    #expect(world.handle(.released(2)) == [])
    #expect(world.state == .stopped)
    #expect(world.timers.isEmpty)
    #expect(world.violations == [])
  }

  @Test("an attempt under way has its end first; what it made is left too", arguments: [true, false])
  func handOverWhileTrying(succeeds: Bool) {
    var world = LifecycleWorld(reconnectTimeout: .seconds(60))
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    world.handle(.timerFired(Timer(purpose: .settle, generation: 1)))
    world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))
    #expect(world.handle(.handOver) == [.cancelTimer(Lifecycle.holdTimer), .cancelAttempt(2)])
    #expect(world.state.reported == .detaching)
    // Whoever hands over ends: nothing starts again, and a stop takes nothing back.
    #expect(world.handle(.start) == [])
    #expect(world.handle(.stop) == [])
    #expect(world.handle(succeeds ? .attemptSucceeded(2) : .attemptFailed(2, .passing)) == [.letGo(3)])
    #expect(world.handle(.released(3)) == [])
    #expect(world.state == .stopped)
    #expect(world.violations == [])
  }

  @Test("a device whose I/O is held is left so, for the next process to put links in")
  mutating func handOverWhilePausing() throws {
    world.handle(.adopted(isAlive: false))
    world.handle(.attemptFailed(1, .passing))
    let timer = try #require(world.timers.keys.first { $0.purpose == .retry })
    #expect(world.handle(.handOver) == [.cancelTimer(Lifecycle.holdTimer), .cancelTimer(timer), .letGo(3)])
    #expect(world.state.reported == .reconnecting)
    #expect(world.handle(.released(3)) == [])
    #expect(world.state == .stopped)
    #expect(world.violations == [])
  }

  @Test("what is being detached is detached, and not started again")
  mutating func handOverWhileDetaching() {
    world.handle(.start)
    world.handle(.attemptSucceeded(1))
    world.handle(.stop)
    world.handle(.start)
    #expect(world.handle(.handOver) == [])
    #expect(world.handle(.released(2)) == [])
    #expect(world.state == .stopped)
  }

  // MARK: Renewed

  @Test("new links take the place of those that are up, and it is attached all the while")
  mutating func renewal() {
    world.handle(.adopted(isAlive: true))
    #expect(world.handle(.renew) == [.cancelTimer(Timer(purpose: .settle, generation: 1)), .renew(2)])
    #expect(world.state.reported == .attached && world.machine.isBound(1))
    #expect(world.handle(.renew) == [])
    world.handle(.attemptSucceeded(2))
    #expect(world.state == .attached(Lifecycle.Binding(generation: 2, standing: .new)))
    #expect(world.violations == [])
  }

  @Test("a renewal that fails leaves the old links, and is not tried again", arguments: [Failure.passing, .hopeless])
  func failedRenewal(failure: Failure) {
    var world = LifecycleWorld()
    world.handle(.adopted(isAlive: true))
    world.handle(.renew)
    #expect(world.handle(.attemptFailed(2, failure)) == [])
    #expect(world.state == .attached(Lifecycle.Binding(generation: 1, standing: .settled)))
    #expect(world.timers.isEmpty)
    #expect(world.violations == [])
  }

  @Test("links that are lost during their renewal are replaced by it")
  mutating func lossDuringRenewal() throws {
    world.handle(.adopted(isAlive: true))
    world.handle(.renew)
    #expect(
      world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))
        == [.startTimer(Lifecycle.holdTimer, .seconds(60))])
    #expect(world.state.reported == .reconnecting)
    #expect(world.attempt == 2)
    world.handle(.attemptSucceeded(2))
    #expect(world.state.reported == .attached)
    #expect(world.violations == [])
  }

  @Test("once the links are lost, a renewal that fails is a failed reconnection")
  mutating func lossThenFailure() throws {
    world.handle(.adopted(isAlive: true))
    world.handle(.renew)
    world.handle(.linksLost(1, remaining: 0, holdsIO: true, .lost))
    world.handle(.attemptFailed(2, .passing))
    #expect(world.state.reported == .reconnecting)
    #expect(world.timers.keys.contains { $0.purpose == .retry })
    #expect(world.violations == [])
  }

  // MARK: Failed while I/O is held

  @Test("an export that can't take its place is `failed` while I/O is held, and attached when it is back")
  mutating func failedWhileHolding() throws {
    world.handle(.adopted(isAlive: false))
    world.handle(.attemptFailed(1, .hopeless))
    #expect(world.state.reported == .failed)
    #expect(world.timers.keys.contains(Lifecycle.holdTimer))
    let timer = try #require(world.timers.keys.first { $0.purpose == .retry })
    #expect(world.timers[timer, default: .seconds(99)] <= .seconds(1))
    world.handle(.timerFired(timer))
    #expect(world.state.reported == .failed)
    world.handle(.attemptSucceeded(try #require(world.attempt)))
    #expect(world.state.reported == .attached)
    #expect(world.violations == [])
  }
}
