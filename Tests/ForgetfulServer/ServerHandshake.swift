import NBDProtocol

/// The server's side of a fixed newstyle handshake: bytes in, bytes out. Every export name is the same image.
struct ServerHandshake: Sendable {
  enum Step: Equatable {
    /// Nothing more can be said until more has arrived.
    case needsMore
    case send([UInt8])
    case transmission([UInt8])
    /// The client has taken leave, or made no sense.
    case close([UInt8])
  }

  private enum State {
    case clientFlags
    case option
  }

  private let size: UInt64
  private let offer: Behaviour.Offer
  private var state = State.clientFlags
  private var omitsZeroes = false

  init(size: UInt64, offer: Behaviour.Offer) {
    self.size = offer.size ?? size
    self.offer = offer
  }

  static var greeting: [UInt8] {
    bigEndian(HandshakeMagic.initial) + bigEndian(HandshakeMagic.option)
      + bigEndian(HandshakeFlags.known.rawValue)
  }

  /// Takes what it can from the front of `input`.
  mutating func advance(_ input: inout ArraySlice<UInt8>) -> Step {
    switch state {
    case .clientFlags:
      guard let flags = Self.take(UInt32.self, from: &input) else { return .needsMore }
      omitsZeroes = flags & UInt32(HandshakeFlags.noZeroes.rawValue) != 0
      state = .option
      return .send([])
    case .option:
      var rest = input
      guard let magic = Self.take(UInt64.self, from: &rest), let number = Self.take(UInt32.self, from: &rest),
        let length = Self.take(UInt32.self, from: &rest)
      else { return .needsMore }
      guard magic == HandshakeMagic.option, length <= 65_536 else { return .close([]) }
      guard rest.count >= length else { return .needsMore }
      input = rest.dropFirst(Int(length))
      return answer(number, Array(rest.prefix(Int(length))))
    }
  }

  private func answer(_ number: UInt32, _ data: [UInt8]) -> Step {
    switch OptionCode(rawValue: number) {
    case .exportName:
      let zeroes = [UInt8](repeating: 0, count: omitsZeroes ? 0 : 124)
      return .transmission(bigEndian(size) + bigEndian(offer.flags.rawValue) + zeroes)
    case .abort: return .close(reply(number, .ack))
    case .list: return .send(reply(number, .server, bigEndian(UInt32(0))) + reply(number, .ack))
    case .info: return .send(infos(number) + reply(number, .ack))
    case .go: return .transmission(infos(number) + reply(number, .ack))
    default: return .send(reply(number, .unsupported))
    }
  }

  private func infos(_ option: UInt32) -> [UInt8] {
    let export = bigEndian(InfoCode.export.rawValue) + bigEndian(size) + bigEndian(offer.flags.rawValue)
    guard let sizes = offer.blockSizes else { return reply(option, .info, export) }
    let blocks =
      bigEndian(InfoCode.blockSize.rawValue) + bigEndian(sizes.minimum) + bigEndian(sizes.preferred)
      + bigEndian(sizes.maximumPayload)
    return reply(option, .info, export) + reply(option, .info, blocks)
  }

  private func reply(_ option: UInt32, _ code: OptionReplyCode, _ data: [UInt8] = []) -> [UInt8] {
    bigEndian(HandshakeMagic.optionReply) + bigEndian(option) + bigEndian(code.rawValue)
      + bigEndian(UInt32(data.count)) + data
  }

  private static func take<T: FixedWidthInteger>(_: T.Type, from input: inout ArraySlice<UInt8>) -> T? {
    guard input.count >= MemoryLayout<T>.size else { return nil }
    let value = input.prefix(MemoryLayout<T>.size).reduce(T(0)) { $0 << 8 | T($1) }
    input = input.dropFirst(MemoryLayout<T>.size)
    return value
  }
}

private func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] {
  withUnsafeBytes(of: value.bigEndian) { Array($0) }
}
