import Testing

@testable import AttachmentModel

@Suite("every state with every event")
struct LifecycleTableTests {
  /// Rows: states, each in all its shapes. Columns: events, of the current generation. `-`: nothing changes.
  ///
  /// `pausing` and `trying` are the two ways of a repair; `*`: the settled binding;
  /// `returned` and `overdue`: the bindings after an outage; `+`: to be started again;
  /// `passing`: on the way to the next process; `handingOver`: with the device let go.
  static let table = """
    state       | start       stop        retry       succeeded   failed      hopeless    lost        lostHeld    oneLost     released    retryTimer  settleTimer holdTimer   adopted     adoptedDead handOver    renew       answered
    stopped     | connecting  -           -           -           -           -           -           -           -           -           -           -           -           attached*   recovering  -           -           -
    connecting  | -           leaving     -           attached    waiting     failed      -           -           -           -           -           -           -           -           -           passing     -           -
    attached    | -           releasing   -           -           -           -           waiting     holding     degraded    -           -           attached*   -           -           -           handingOver renewing    -
    attached*   | -           releasing   -           -           -           -           connecting  recovering  repairing   -           -           -           -           -           -           handingOver renewing    -
    returned    | -           releasing   -           -           -           -           waiting     holding     degraded    -           -           attached*   overdue     -           -           handingOver renewing    attached
    overdue     | -           releasing   -           -           -           -           waiting     waiting     degraded    -           -           attached*   -           -           -           handingOver renewing    attached
    renewing    | -           leaving     -           attached    attached*   attached*   connecting  recovering  -           -           -           -           -           -           -           passing     -           -
    degraded    | -           releasing   repairing   -           -           -           connecting  holding     -           -           repairing   -           -           -           -           handingOver -           -
    repairing   | -           leaving     -           attached    degraded    degraded    connecting  recovering  -           -           -           -           -           -           -           passing     -           -
    holding     | -           releasing   recovering  -           -           -           -           -           -           -           recovering  -           waiting     -           -           handingOver -           -
    recovering  | -           leaving     -           returned    holding     holding     -           -           -           -           -           -           connecting  -           -           passing     -           -
    waiting     | -           releasing   connecting  -           -           -           -           -           -           -           connecting  -           -           -           -           handingOver -           -
    failed      | -           releasing   connecting  -           -           -           -           -           -           -           connecting  -           -           -           -           handingOver -           -
    leaving     | leaving+    -           -           releasing   releasing   releasing   -           -           -           -           -           -           -           -           -           -           -           -
    leaving+    | -           leaving     -           releasing+  releasing+  releasing+  -           -           -           -           -           -           -           -           -           -           -           -
    passing     | -           -           -           handingOver handingOver handingOver -           -           -           -           -           -           -           -           -           -           -           -
    handingOver | -           -           -           -           -           -           -           -           -           stopped     -           -           -           -           -           -           -           -
    releasing   | releasing+  -           -           -           -           -           -           -           -           stopped     -           -           -           -           -           -           -           -
    releasing+  | -           releasing   -           -           -           -           -           -           -           connecting  -           -           -           -           -           releasing   -           -
    """

  /// One field of the table.
  struct Transition: Sendable, CustomTestStringConvertible {
    let state: String
    let event: String
    let next: String
    var testDescription: String { "\(state) + \(event)" }
  }

  static let transitions: [Transition] = {
    let lines = table.split(separator: "\n").map { $0.split { $0 == " " || $0 == "|" }.map(String.init) }
    let events = lines[0].dropFirst()
    return lines.dropFirst().flatMap { row in
      zip(events, row.dropFirst()).map { Transition(state: row[0], event: $0, next: $1 == "-" ? row[0] : $1) }
    }
  }()

  @Test(
    "leads where the table says, and nothing is left under way that the state does not mean", arguments: transitions)
  func leads(transition: Transition) throws {
    var world = try Self.world(in: transition.state)
    #expect(Self.name(of: world.state) == transition.state)
    world.handle(try Self.event(transition.event, in: world))
    #expect(Self.name(of: world.state) == transition.next)
    #expect(world.violations == [])
  }

  @Test("answers of an older generation change nothing", arguments: Set(transitions.map(\.state)).sorted())
  func stale(state: String) throws {
    var world = try Self.world(in: state)
    let before = world.machine
    for generation in [0, world.newest + 1] {
      for event in [
        Lifecycle.Event.attemptSucceeded(generation), .attemptFailed(generation, .passing), .released(generation),
        .attemptFailed(generation, .hopeless), .linksLost(generation, remaining: 0, holdsIO: false, .lost),
        .linksLost(generation, remaining: 1, holdsIO: true, .lost), .answered(generation),
        .timerFired(Lifecycle.Timer(purpose: .retry, generation: generation)),
        .timerFired(Lifecycle.Timer(purpose: .settle, generation: generation)),
      ] {
        #expect(world.handle(event) == [])
        #expect(world.machine == before)
      }
    }
    #expect(world.violations == [])
  }

  @Test("a stop always ends in `stopped`, once what is under way has answered", arguments: transitions)
  func stops(transition: Transition) throws {
    var world = try Self.world(in: transition.state)
    world.handle(try Self.event(transition.event, in: world))
    world.handle(.stop)
    if let attempt = world.attempt { world.handle(.attemptFailed(attempt, .passing)) }
    if let detachment = world.detachment { world.handle(.released(detachment)) }
    #expect(world.state == .stopped)
    #expect(world.timers.isEmpty)
    #expect(world.violations == [])
  }

  // MARK: From the table's words to machines, and back

  /// The shortest way into a state of the table.
  private static func world(in state: String) throws -> LifecycleWorld {
    var world = LifecycleWorld(reconnectTimeout: .seconds(60))
    for event in try #require(paths[state], "no path to \(state)") {
      world.handle(try Self.event(event, in: world))
    }
    return world
  }

  private static let paths: [String: [String]] = [
    "stopped": [],
    "connecting": ["start"],
    "attached": ["start", "succeeded"],
    "attached*": ["start", "succeeded", "settleTimer"],
    "returned": ["start", "succeeded", "settleTimer", "lostHeld", "succeeded"],
    "overdue": ["start", "succeeded", "settleTimer", "lostHeld", "succeeded", "holdTimer"],
    "degraded": ["start", "succeeded", "oneLost"],
    "repairing": ["start", "succeeded", "settleTimer", "oneLost"],
    "holding": ["start", "succeeded", "lostHeld"],
    "recovering": ["start", "succeeded", "settleTimer", "lostHeld"],
    "waiting": ["start", "failed"],
    "failed": ["start", "hopeless"],
    "renewing": ["start", "succeeded", "settleTimer", "renew"],
    "passing": ["start", "handOver"],
    "handingOver": ["start", "succeeded", "handOver"],
    "leaving": ["start", "stop"],
    "leaving+": ["start", "stop", "start"],
    "releasing": ["start", "succeeded", "stop"],
    "releasing+": ["start", "succeeded", "stop", "start"],
  ]

  private static func event(_ name: String, in world: LifecycleWorld) throws -> Lifecycle.Event {
    let attempt = world.attempt ?? world.newest
    let binding = world.binding ?? world.newest
    func timer(_ purpose: Lifecycle.Timer.Purpose) -> Lifecycle.Timer {
      world.timers.keys.first { $0.purpose == purpose }
        ?? Lifecycle.Timer(purpose: purpose, generation: purpose == .reconnectTimeout ? 0 : world.newest)
    }
    let events: [String: Lifecycle.Event] = [
      "start": .start,
      "stop": .stop,
      "adopted": .adopted(isAlive: true),
      "adoptedDead": .adopted(isAlive: false),
      "handOver": .handOver,
      "renew": .renew,
      "retry": .retry,
      "succeeded": .attemptSucceeded(attempt),
      "failed": .attemptFailed(attempt, .passing),
      "hopeless": .attemptFailed(attempt, .hopeless),
      "lost": .linksLost(binding, remaining: 0, holdsIO: false, .lost),
      "lostHeld": .linksLost(binding, remaining: 0, holdsIO: true, .lost),
      "oneLost": .linksLost(binding, remaining: 1, holdsIO: true, .lost),
      "answered": .answered(binding),
      "released": .released(world.detachment ?? world.newest),
      "retryTimer": .timerFired(timer(.retry)),
      "settleTimer": .timerFired(timer(.settle)),
      "holdTimer": .timerFired(timer(.reconnectTimeout)),
    ]
    return try #require(events[name], "no event \(name)")
  }

  private static func name(of state: Lifecycle.State) -> String {
    switch state {
    case .stopped: "stopped"
    case .connecting: "connecting"
    case .attached(let binding):
      switch binding.standing {
      case .settled: "attached*"
      case .new: "attached"
      case .returned: "returned"
      case .overdue: "overdue"
      }
    case .degraded(_, .pausing): "degraded"
    case .degraded(_, .trying(let attempt)): attempt.previous == nil ? "renewing" : "repairing"
    case .reconnecting(.pausing): "holding"
    case .reconnecting(.trying): "recovering"
    case .waiting: "waiting"
    case .failed: "failed"
    case .detaching(.awaitingAttempt(_, .release)): "leaving"
    case .detaching(.awaitingAttempt(_, .releaseAndStartAgain)): "leaving+"
    case .detaching(.awaitingAttempt(_, .handOver)): "passing"
    case .detaching(.awaitingHandOver): "handingOver"
    case .detaching(.awaitingRelease(_, let startAgain)): startAgain ? "releasing+" : "releasing"
    }
  }
}
