import NBDProtocol

@testable import RelayModel

/// A ledger for transcripts: requests have small names, offsets are in blocks of 4096 bytes, and each payload is known
/// by the cookie of its request.
final class Scene {
  static let block: UInt32 = 4096

  var ledger: RelayLedger
  var now: UInt64 = 1

  init(_ limits: LedgerLimits = LedgerLimits(unflushedBytes: 1 << 20)) { ledger = RelayLedger(limits) }

  func join(_ link: LinkID, _ server: ServerLimits = ServerLimits(canMultiConn: true)) {
    ledger.linkJoined(link, server, now: now)
  }

  func lose(_ link: LinkID) { ledger.linkLost(link, now: now) }
  func leave(_ link: LinkID) { ledger.linkLeaving(link) }

  func ask(
    _ command: CommandCode, _ cookie: UInt64, at block: UInt64 = 0, blocks: UInt32 = 1, flags: CommandFlags = []
  ) {
    let isRanged = command != .flush
    ledger.accept(
      Request(
        command, flags: flags, cookie: cookie, offset: isRanged ? block * UInt64(Scene.block) : 0,
        length: isRanged ? blocks * Scene.block : 0),
      payload: command == .write ? PayloadLocation(segment: Int32(cookie), offset: 28) : nil, now: now)
  }

  func write(_ cookie: UInt64, at block: UInt64, blocks: UInt32 = 1, flags: CommandFlags = []) {
    ask(.write, cookie, at: block, blocks: blocks, flags: flags)
  }

  /// All that goes out now.
  func sent() -> [Transmission] {
    var all: [Transmission] = []
    while let next = ledger.nextTransmission(now: now) { all.append(next) }
    return all
  }

  @discardableResult
  func reply(_ transmission: Transmission, error: UInt32 = 0) -> Outcome {
    ledger.replied(transmission.cookie, from: transmission.link, error: error, now: now)
  }

  func reply(_ cookie: UInt64, from link: LinkID) -> Outcome {
    ledger.replied(cookie, from: link, error: 0, now: now)
  }

  /// Sends and answers all that goes out, until nothing more does.
  @discardableResult
  func answerAll() -> [Transmission] {
    var all: [Transmission] = []
    while let next = ledger.nextTransmission(now: now) {
      all.append(next)
      reply(next)
    }
    return all
  }

  func expected(_ transmission: Transmission) -> ExpectedReply? {
    ledger.expected(transmission.cookie, from: transmission.link)
  }

  /// Segments of the payloads that are free now: the cookies of their requests.
  func released() -> [Int32] {
    var all: [Int32] = []
    while let payload = ledger.nextReleased() { all.append(payload.segment) }
    return all
  }

  func events() -> [LedgerEvent] {
    var all: [LedgerEvent] = []
    while let event = ledger.nextEvent() { all.append(event) }
    return all
  }

  /// Cookies and errors of the answers that no server gave.
  func answers() -> [UInt64: UInt32] {
    var all: [UInt64: UInt32] = [:]
    while let answer = ledger.nextAnswer() { all[answer.kernelCookie] = answer.error }
    return all
  }

  var unflushed: Int { ledger.unflushed.entries }
  var keptBytes: Int { ledger.unflushed.bytes }
  var unanswered: Int { ledger.unanswered }
  var owesError: Bool { ledger.owesError }
  var acceptsRequests: Bool { ledger.acceptsRequests }
  var isDrained: Bool { ledger.isDrained }
  var waiting: Int { ledger.waiting }
  var inFlight: Int { ledger.inFlight }
  var loggedWrites: [LoggedWrite] { ledger.loggedWrites }
  var errorsOwed: OwedErrors { ledger.errorsOwed }
  var isFlowing: Bool { ledger.isFlowing }
  func inherit(_ writes: [LoggedWrite], owing errors: OwedErrors) -> Bool {
    ledger.inherit(writes, owing: errors, now: now)
  }
  func awaitsWrites(on link: LinkID) -> Bool { ledger.awaitsWrites(on: link) }
}

extension Transmission {
  /// In blocks.
  var block: UInt64 { offset / UInt64(Scene.block) }
}
