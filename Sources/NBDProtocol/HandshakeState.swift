extension Handshake {
  /// Where the conversation is. Every state can become `failed`.
  enum State: Sendable {
    /// Nothing was read or sent. Can become: `greeting`.
    case unstarted
    /// The server's two magic numbers are due. Can become: `handshakeFlags`, `oldstyleExport`.
    case greeting
    /// A newstyle server's flags are due. Can become: `replyHeader`, `exportNameReply`.
    case handshakeFlags
    /// An oldstyle server's size, flags and zeroes are due. Can become: `finished`.
    case oldstyleExport
    /// The header of a reply to the pending option is due. Can become: `replyHeader`, `replyData`, `startingTLS`,
    /// `exportNameReply`, `finished`.
    case replyHeader(Pending)
    /// Data of that reply is due. Can become: what `replyHeader` can.
    case replyData(Pending, OptionReply)
    /// The server agreed to TLS, and the caller sets it up. Can become: `replyHeader`.
    case startingTLS
    /// Size and flags of the chosen export are due, or a close. Can become: `zeroes`, `finished`.
    case exportNameReply
    /// 124 meaningless bytes are due. Can become: `finished`.
    case zeroes(ExportInfo)
    /// The goal is reached.
    case finished(inTransmission: Bool)
    /// It can't be reached on this connection.
    case failed(HandshakeError)
  }

  /// The option whose replies are being read, with what they said so far.
  enum Pending: Sendable {
    case startTLS
    /// What was listed is in `listing`, where it grows without being copied.
    case list
    case info(Announcement)
    case go(Announcement)

    var option: OptionCode {
      switch self {
      case .startTLS: .startTLS
      case .list: .list
      case .info: .info
      case .go: .go
      }
    }
  }

  /// How many bytes the state waits for; 0 where it waits for none.
  var awaited: Int {
    switch state {
    case .unstarted, .startingTLS, .finished, .failed: 0
    case .greeting: 8 + 8
    case .handshakeFlags: 2
    case .oldstyleExport: 8 + 4 + 124
    case .replyHeader: OptionReply.headerLength
    case .replyData(_, let reply): min(reply.remaining, Self.maximumReceive)
    case .exportNameReply: 8 + 2
    case .zeroes: 124
    }
  }

  /// The wanted export; "" where the goal is the list.
  var exportName: String {
    switch goal {
    case .attach(let export), .inspect(let export): export
    case .list: ""
    }
  }

  mutating func step(sending bytes: [UInt8] = [], to state: State) -> Step {
    self.state = state
    return Step(send: bytes, next: .receive(awaited))
  }

  mutating func finish(_ export: ExportInfo, inTransmission: Bool) -> Step {
    state = .finished(inTransmission: inTransmission)
    switch goal {
    case .attach: return Step(next: .finished(.transmission(export)))
    case .inspect, .list: return Step(next: .finished(.inspected(export)))
    }
  }

  mutating func advance(with bytes: [UInt8]) throws(HandshakeError) -> Step {
    switch state {
    case .greeting: return try greeted(bytes)
    case .handshakeFlags: return try handshakeFlags(bytes)
    case .oldstyleExport: return try oldstyleExport(bytes)
    case .replyHeader(let pending): return try replyHeader(bytes, to: pending)
    case .replyData(let pending, let reply): return try replyData(bytes, of: reply, to: pending)
    case .exportNameReply: return try exportNameReply(bytes)
    case .zeroes(let export): return finish(export, inTransmission: true)
    case .unstarted, .startingTLS, .finished, .failed: throw .outOfStep
    }
  }

  var closedError: HandshakeError {
    switch state {
    case .unstarted, .greeting, .handshakeFlags, .oldstyleExport: .closed(.greeting)
    case .replyHeader(let pending), .replyData(let pending, _): .closed(.reply(pending.option))
    case .startingTLS: .closed(.tls)
    case .exportNameReply: .exportNameRefused(exportName)
    case .zeroes, .finished: .closed(.transmission)
    case .failed(let error): error
    }
  }
}
