/// The client's side of an NBD handshake, from the first byte of a connection to transmission: oldstyle, newstyle and
/// fixed newstyle (proto.md, "Handshake").
///
/// A pure machine: it says what to send and exactly how many bytes to read next, so that no byte that belongs to TLS or
/// to the kernel is ever taken early. The caller sends `Step.send` whole, then does what `Step.next` says. Only what the
/// kernel can parse is negotiated: no structured replies, no extended headers, no meta contexts. What a server announces
/// is bounded before it is asked for (`maximumReceive` and the limits beside it).
///
/// After an error was thrown, or when the caller leaves for a reason of its own, `farewell` is what to send before closing.
package struct Handshake: Sendable {
  /// What the connection is for.
  package enum Goal: Equatable, Sendable {
    /// Bring the connection into transmission on this export; "" is the server's default.
    case attach(export: String)
    /// Learn of the export, with its name and description, and leave.
    case inspect(export: String)
    /// Learn which exports there are, and leave.
    case list
  }

  /// How the connection is protected.
  package enum Security: Equatable, Sendable {
    case plain
    /// STARTTLS is the first option, and without it nothing else is sent.
    case tls
  }

  /// What a step asks of the caller after it has sent.
  package enum Next: Equatable, Sendable {
    /// Read exactly this many bytes, 1 to `maximumReceive`, and give them to `received(_:)`.
    case receive(Int)
    /// Start TLS on the connection now, then call `tlsEstablished()`. Bytes that already came in clear (a buffer of the
    /// caller that is not empty) are an injection: end the connection.
    case startTLS
    /// Reached; nothing more is to be read.
    case finished(Outcome)
  }

  /// Bytes to send, perhaps none, and what to do then.
  package struct Step: Equatable, Sendable {
    package var send: [UInt8]
    package var next: Next

    package init(send: [UInt8] = [], next: Next) {
      self.send = send
      self.next = next
    }
  }

  /// A goal reached.
  package enum Outcome: Equatable, Sendable {
    /// The next byte from the server is a reply, the next to it a request.
    case transmission(ExportInfo)
    /// To be followed by the farewell and a close.
    case inspected(ExportInfo)
    /// To be followed by the farewell and a close.
    case exports([ExportEntry])
  }

  /// How the server greets.
  package enum Style: String, Sendable, Codable, CustomStringConvertible {
    case oldstyle
    case newstyle
    case fixedNewstyle = "fixed newstyle"

    package var description: String { rawValue }
  }

  /// No `Next.receive` is above this, in bytes: a whole NBD_REP_SERVER. Longer data is read in pieces.
  package static let maximumReceive = 4 + 2 * maximumStringLength
  /// proto.md's bound for a string, in bytes. Of a longer error text the rest is read and dropped.
  package static let maximumStringLength = 4096
  /// Of all option replies of a connection together, in bytes.
  package static let maximumReplyData = 32 << 20
  /// NBD_REP_INFO before the final reply.
  package static let maximumInfos = 64
  /// NBD_REP_SERVER before the final reply.
  package static let maximumEntries = 10_000
  /// Names that an `exportNotListed` carries.
  package static let maximumOffered = 10

  package let goal: Goal
  package let security: Security
  /// What the server greeted with; `nil` until then.
  package internal(set) var style: Style?

  /// NO_ZEROES was offered, and agreed to.
  var leavesOutZeroes = false
  /// What is left of `maximumReplyData`.
  var replyBudget = Handshake.maximumReplyData
  /// What the server's list said so far.
  var listing = Listing()
  var state = State.unstarted

  package init(goal: Goal, security: Security) {
    self.goal = goal
    self.security = security
  }

  /// The first step, once the connection stands: the server speaks first.
  package mutating func start() -> Step {
    guard case .unstarted = state else { return Step(next: .receive(awaited)) }
    return step(to: .greeting)
  }

  /// Takes the bytes that the last step asked for.
  package mutating func received(_ bytes: [UInt8]) throws(HandshakeError) -> Step {
    if case .failed(let error) = state { throw error }
    do throws(HandshakeError) {
      guard awaited > 0, bytes.count == awaited else { throw .outOfStep }
      return try advance(with: bytes)
    } catch {
      state = .failed(error)
      throw error
    }
  }

  /// TLS stands, with the certificates verified; everything that was said before is void.
  package mutating func tlsEstablished() throws(HandshakeError) -> Step {
    if case .failed(let error) = state { throw error }
    guard case .startingTLS = state else {
      state = .failed(.outOfStep)
      throw .outOfStep
    }
    replyBudget = Self.maximumReplyData
    return askForGoal()
  }

  /// What it means that the server has closed the connection now.
  package mutating func peerClosed() -> HandshakeError {
    let error = closedError
    state = .failed(error)
    return error
  }

  /// What to send, in clear or under TLS as the connection is by then, before closing it now; may be empty.
  package var farewell: [UInt8] {
    switch state {
    case .unstarted, .greeting, .handshakeFlags, .oldstyleExport: []
    // The server may already be in TLS or in transmission, where an option is noise.
    case .replyHeader(.startTLS), .replyData(.startTLS, _), .startingTLS: []
    case .replyHeader(.go), .replyData(.go, _), .exportNameReply, .zeroes: []
    case .replyHeader(.list), .replyData(.list, _), .replyHeader(.info), .replyData(.info, _): Self.abort
    case .finished(inTransmission: true): Request(.disconnect, cookie: 0).bytes
    case .finished(inTransmission: false): Self.abort
    case .failed(let error): error.endsWhileHaggling && style == .fixedNewstyle ? Self.abort : []
    }
  }

  private static let abort = option(.abort)
}
