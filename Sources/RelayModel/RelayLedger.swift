import NBDProtocol

/// The decisions of the relay: what is sent where and when, what is kept, what is sent again, what is answered.
///
/// No I/O and no clock. The engine says what has come (`accept`, `replied`, the links' events), and after each such call
/// carries out what is asked for: `nextTransmission`, `nextAnswer`, `nextReleased` and `nextEvent`, each until `nil`.
/// Times are monotonic, in nanoseconds.
///
/// Three promises hold it together. Overlapping writes are never in flight together, so acknowledgements come in the
/// order in which a replay must repeat them. The log holds every acknowledged write that no FLUSH has covered. And what
/// is sent, is sent to the server that has the log: to a link that is proven, after the log has been replayed to it.
package struct RelayLedger: ~Copyable {
  /// Where the ledger stands with the server.
  enum Phase: Equatable {
    /// At least one link is proven: requests go out. Can become: `holding`.
    case flowing
    /// No link is proven: everything waits. Can become: `replaying`, `flowing` (the log is empty), `givenUp`.
    case holding
    /// The log is being sent again, and everything else waits. Can become: `flowing`, `holding`.
    case replaying(Replay)
    /// Waiting was given up: all is answered with EIO. Can become: `holding`.
    case givenUp
  }

  /// May change at any time.
  package var limits: LedgerLimits {
    didSet { limitsChanged() }
  }

  var slots: SlotTable
  var links: [Link] = []
  var claims = Claims()
  var phase = Phase.holding
  /// Counts what happens, so that "before" and "after" can be told: arrivals, sendings, acknowledgements, joinings.
  private var count: UInt64 = 0

  var ready = SlotList()
  var blocked = SlotList()
  var roomless = SlotList()
  var gated = SlotList()
  var split = SlotList()
  var log = SlotList()
  var released = SlotList()

  /// Payload in the log, in bytes.
  var loggedBytes = 0
  /// Writes on their way that the log must have room for.
  var reservedBytes = 0
  var reservedEntries = 0
  /// Parts in flight, of requests and of the log.
  var partsOut = 0
  /// Requests of the kernel that are unanswered.
  var taken = 0
  /// Requests of the kernel that went out in parts.
  package internal(set) var splitCount = 0

  var flushing = Flushing()
  /// Kept writes that are in flight again.
  var replayClaims = Claims()
  var owed = OwedErrors()
  /// Of the replay, not told yet.
  var losses = Losses()
  var isDraining = false
  /// A server may still carry out writes of a former process.
  var isFenced = false
  var isStalled = false

  private var answers = Ring<Answer>()
  private var events = Ring<LedgerEvent>()

  private struct Answer {
    let kernelCookie: UInt64
    let error: UInt32
  }

  package init(_ limits: LedgerLimits) {
    self.limits = limits
    slots = SlotTable(capacity: min(max(limits.requests, 0), 4096))
  }

  /// What the kernel has not been told yet and no server's reply carries. For a READ that is being assembled from parts
  /// it is the end of the assembly.
  package mutating func nextAnswer() -> (kernelCookie: UInt64, error: UInt32)? {
    answers.popFirst().map { ($0.kernelCookie, $0.error) }
  }

  /// A payload that the ledger needs no longer, each once. Its bytes may still stand in a link's unsent output, when a
  /// server has answered a request before it had all of it.
  package mutating func nextReleased() -> PayloadLocation? {
    while let index = slots.popFirst(of: &released) {
      let payload = slots[index].payload
      slots.free(index)
      if let payload { return payload }
    }
    return nil
  }

  package mutating func nextEvent() -> LedgerEvent? { events.popFirst() }

  /// Nothing more will come: what waits to be told is among the events now.
  package mutating func end() { tellLosses() }

  /// Acknowledged and not yet known to be safe.
  package var unflushed: (entries: Int, bytes: Int) { (log.count, loggedBytes) }

  /// Unanswered on links: requests, parts, and what is our own.
  package var inFlight: Int {
    var count = 0
    for link in links { count += link.inFlight.count }
    return count
  }

  /// Requests and parts that are on no link.
  package var waiting: Int { ready.count + blocked.count + roomless.count + gated.count }

  /// Taken from the kernel and unanswered.
  package var unanswered: Int { taken }

  /// Requests wait for a server, or for what has to be sent to it before them.
  package var holdsIO: Bool {
    switch phase {
    case .holding, .replaying: true
    case .flowing, .givenUp: false
    }
  }

  // Small moves that all parts of the ledger share.

  /// A number greater than all before it.
  @inline(__always)
  mutating func tickCount() -> UInt64 {
    count &+= 1
    return count
  }

  mutating func answer(_ kernelCookie: UInt64, _ error: UInt32) {
    answers.append(Answer(kernelCookie: kernelCookie, error: error))
  }

  mutating func forgetAnswers() { answers.removeAll() }

  mutating func report(_ event: LedgerEvent) { events.append(event) }

  /// Ends a slot that is in no list, and gives its payload back.
  mutating func discard(_ index: SlotIndex) {
    guard slots[index].payload != nil else { return slots.free(index) }
    slots[index].state = .released
    slots.append(index, to: &released)
  }

  func linkIndex(_ id: LinkID) -> Int? {
    for index in links.indices where links[index].id == id { return index }
    return nil
  }
}
