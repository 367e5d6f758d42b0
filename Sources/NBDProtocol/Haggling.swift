/// One option reply (proto.md, "Fixed newstyle negotiation"): its header, and of its data what was read and is kept.
struct OptionReply: Sendable {
  /// Magic, option, type, length.
  static let headerLength = 8 + 4 + 4 + 4

  let code: OptionReplyCode
  /// Of the data, in bytes, as announced.
  let length: UInt32
  /// The first `Handshake.maximumReceive` bytes at most.
  var data: [UInt8] = []
  /// Bytes not read yet.
  var remaining: Int
}

extension Handshake {
  /// A whole option message.
  static func option(_ code: OptionCode, data: [UInt8] = []) -> [UInt8] {
    var message: [UInt8] = []
    message.reserveCapacity(16 + data.count)
    message.append(bigEndian: HandshakeMagic.option)
    message.append(bigEndian: code.rawValue)
    message.append(bigEndian: UInt32(truncatingIfNeeded: data.count))
    message += data
    return message
  }

  /// The option that serves the goal best, first of all when nothing was asked yet.
  mutating func askForGoal() -> Step {
    switch goal {
    case .attach: go()
    case .inspect: step(sending: Self.option(.info, data: exportRequest), to: .replyHeader(.info(Announcement())))
    case .list: list()
    }
  }

  private mutating func go() -> Step {
    step(sending: Self.option(.go, data: exportRequest), to: .replyHeader(.go(Announcement())))
  }

  private mutating func list() -> Step {
    listing = Listing()
    return step(sending: Self.option(.list), to: .replyHeader(.list))
  }

  /// Ends the haggling: the server answers with the export, or closes.
  mutating func chooseByName() -> Step {
    step(sending: Self.option(.exportName, data: Array(exportName.utf8)), to: .exportNameReply)
  }

  /// Data of NBD_OPT_GO and NBD_OPT_INFO: name, and which infos are wanted. Block sizes always are: a server may refuse
  /// a client that does not ask for them.
  private var exportRequest: [UInt8] {
    let name = Array(exportName.utf8)
    let infos: [InfoCode] = if case .inspect = goal { [.name, .description, .blockSize] } else { [.blockSize] }
    var data: [UInt8] = []
    data.append(bigEndian: UInt32(truncatingIfNeeded: name.count))
    data += name
    data.append(bigEndian: UInt16(truncatingIfNeeded: infos.count))
    for info in infos { data.append(bigEndian: info.rawValue) }
    return data
  }

  mutating func replyHeader(_ bytes: [UInt8], to pending: Pending) throws(HandshakeError) -> Step {
    let span = bytes.span.bytes
    guard let magic = span.bigEndian(UInt64.self, at: 0), let echo = span.bigEndian(UInt32.self, at: 8),
      let rawCode = span.bigEndian(UInt32.self, at: 12), let length = span.bigEndian(UInt32.self, at: 16)
    else { throw .outOfStep }
    let code = OptionReplyCode(rawValue: rawCode)
    guard magic == HandshakeMagic.optionReply else { throw .violation(.replyMagic(magic)) }
    guard echo == pending.option.rawValue else { throw .violation(.echo(sent: pending.option, received: echo)) }
    try check(length, of: code, to: pending)
    guard length <= replyBudget else { throw .violation(.tooMuchData) }
    replyBudget -= Int(length)
    let reply = OptionReply(code: code, length: length, remaining: Int(length))
    if length > 0 { return step(to: .replyData(pending, reply)) }
    return try complete(reply, to: pending)
  }

  /// Whether the option can have such a reply, and the reply such a length; the rest shows in its data.
  private func check(_ length: UInt32, of code: OptionReplyCode, to pending: Pending) throws(HandshakeError) {
    let isFitting: Bool
    switch (code, pending) {
    case (_, _) where code.isError: isFitting = true
    case (.ack, _): isFitting = length == 0
    case (.server, .list): isFitting = length >= 4 && length <= Self.maximumReceive
    case (.info, .info), (.info, .go): isFitting = length >= 2
    case (_, .startTLS), (_, .list), (_, .info), (_, .go): throw .violation(.reply(pending.option, code))
    }
    guard isFitting else { throw .violation(.replyLength(code, length)) }
  }

  mutating func replyData(_ bytes: [UInt8], of reply: OptionReply, to pending: Pending) throws(HandshakeError) -> Step {
    var reply = reply
    let isFirstPiece = reply.data.isEmpty
    if isFirstPiece { reply.data = bytes }
    reply.remaining -= bytes.count
    if isFirstPiece, reply.code == .info { try checkInfoLength(reply) }
    if reply.remaining > 0 { return step(to: .replyData(pending, reply)) }
    return try complete(reply, to: pending)
  }

  private func checkInfoLength(_ reply: OptionReply) throws(HandshakeError) {
    guard let raw = reply.data.span.bytes.bigEndian(UInt16.self, at: 0) else { throw .outOfStep }
    let info = InfoCode(rawValue: raw)
    let isFitting: Bool
    switch info {
    case .export: isFitting = reply.length == 2 + 8 + 2
    case .blockSize: isFitting = reply.length == 2 + 3 * 4
    case .name, .description: isFitting = reply.length <= 2 + Self.maximumStringLength
    default: isFitting = true
    }
    guard isFitting else { throw .violation(.infoLength(info, reply.length)) }
  }

  /// A reply is there as a whole.
  private mutating func complete(_ reply: OptionReply, to pending: Pending) throws(HandshakeError) -> Step {
    if reply.code.isError { return try refused(reply, to: pending) }
    switch pending {
    case .startTLS:
      state = .startingTLS
      return Step(next: .startTLS)
    case .list: return reply.code == .ack ? try listed() : try entry(reply)
    case .info(var announcement):
      if reply.code == .ack {
        let export = try export(from: announcement, by: .info)
        // nbd-server (3.24) answers NBD_OPT_INFO before it has opened the export, with size 0; only GO tells.
        return export.size == 0 ? go() : finish(export, inTransmission: false)
      }
      try take(reply, of: .info, into: &announcement)
      return step(to: .replyHeader(.info(announcement)))
    case .go(var announcement):
      if reply.code == .ack { return finish(try export(from: announcement, by: .go), inTransmission: true) }
      try take(reply, of: .go, into: &announcement)
      return step(to: .replyHeader(.go(announcement)))
    }
  }

  /// An error reply ends an option; what an old server merely does not know is tried the older way.
  private mutating func refused(_ reply: OptionReply, to pending: Pending) throws(HandshakeError) -> Step {
    let text = String(decoding: reply.data.prefix(Self.maximumStringLength), as: UTF8.self)
    let refusal = HandshakeError.refused(pending.option, reply.code, text: text)
    switch pending {
    case .startTLS:
      throw refusal
    case .info:
      guard reply.code == .unsupported else { throw refusal }
      return go()
    case .go:
      guard reply.code == .unsupported else { throw refusal }
      // The zeroes after NBD_OPT_EXPORT_NAME depend on a flag that was sent in clear (proto.md, "Downgrade attacks").
      guard security == .plain else { throw .goUnsupportedUnderTLS }
      return list()
    case .list:
      if goal == .list || reply.code == .tlsRequired || reply.code == .shutdown { throw refusal }
      return chooseByName()
    }
  }
}
