/// The magic numbers of the handshake (proto.md, "Handshake").
package enum HandshakeMagic {
  /// `NBDMAGIC`, the first eight bytes of every server.
  package static let initial: UInt64 = 0x4e42_444d_4147_4943
  /// `IHAVEOPT`: the second eight bytes of a newstyle server, and the first of every option that a client sends.
  package static let option: UInt64 = 0x4948_4156_454f_5054
  /// The second eight bytes of an oldstyle server.
  package static let oldstyle: UInt64 = 0x0000_4202_8186_1253
  package static let optionReply: UInt64 = 0x0003_e889_0455_65a9
}

/// Handshake flags, 16 bits from the server; the client answers with the same two bits in 32 (proto.md, "Flag fields").
package struct HandshakeFlags: OptionSet, Hashable, Sendable {
  package let rawValue: UInt16

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let fixedNewstyle = HandshakeFlags(rawValue: 1 << 0)
  package static let noZeroes = HandshakeFlags(rawValue: 1 << 1)

  /// The bits that this client knows and may send back; all others are ignored.
  package static let known: HandshakeFlags = [.fixedNewstyle, .noZeroes]
}

/// What a client asks for while haggling (proto.md, "Option types").
package enum OptionCode: UInt32, CaseIterable, Sendable, CustomStringConvertible {
  case exportName = 1
  case abort = 2
  case list = 3
  case startTLS = 5
  case info = 6
  case go = 7
  case structuredReply = 8
  case listMetaContext = 9
  case setMetaContext = 10
  case extendedHeaders = 11

  /// The name in proto.md, such as `NBD_OPT_GO`.
  package var description: String {
    switch self {
    case .exportName: "NBD_OPT_EXPORT_NAME"
    case .abort: "NBD_OPT_ABORT"
    case .list: "NBD_OPT_LIST"
    case .startTLS: "NBD_OPT_STARTTLS"
    case .info: "NBD_OPT_INFO"
    case .go: "NBD_OPT_GO"
    case .structuredReply: "NBD_OPT_STRUCTURED_REPLY"
    case .listMetaContext: "NBD_OPT_LIST_META_CONTEXT"
    case .setMetaContext: "NBD_OPT_SET_META_CONTEXT"
    case .extendedHeaders: "NBD_OPT_EXTENDED_HEADERS"
    }
  }
}

/// How a server answers an option (proto.md, "Option reply types"). Any value can arrive.
package struct OptionReplyCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  package let rawValue: UInt32

  package init(rawValue: UInt32) { self.rawValue = rawValue }

  private init(error number: UInt32) { rawValue = 1 << 31 | number }

  package static let ack = OptionReplyCode(rawValue: 1)
  package static let server = OptionReplyCode(rawValue: 2)
  package static let info = OptionReplyCode(rawValue: 3)
  package static let metaContext = OptionReplyCode(rawValue: 4)

  package static let unsupported = OptionReplyCode(error: 1)
  package static let policy = OptionReplyCode(error: 2)
  package static let invalid = OptionReplyCode(error: 3)
  package static let platform = OptionReplyCode(error: 4)
  package static let tlsRequired = OptionReplyCode(error: 5)
  package static let unknown = OptionReplyCode(error: 6)
  package static let shutdown = OptionReplyCode(error: 7)
  package static let blockSizeRequired = OptionReplyCode(error: 8)
  package static let tooBig = OptionReplyCode(error: 9)
  package static let extendedHeadersRequired = OptionReplyCode(error: 10)

  /// Bit 31: the server refuses; also where the rest of the number is unknown to us.
  package var isError: Bool { rawValue & 1 << 31 != 0 }

  private static let names: [OptionReplyCode: String] = [
    .ack: "NBD_REP_ACK",
    .server: "NBD_REP_SERVER",
    .info: "NBD_REP_INFO",
    .metaContext: "NBD_REP_META_CONTEXT",
    .unsupported: "NBD_REP_ERR_UNSUP",
    .policy: "NBD_REP_ERR_POLICY",
    .invalid: "NBD_REP_ERR_INVALID",
    .platform: "NBD_REP_ERR_PLATFORM",
    .tlsRequired: "NBD_REP_ERR_TLS_REQD",
    .unknown: "NBD_REP_ERR_UNKNOWN",
    .shutdown: "NBD_REP_ERR_SHUTDOWN",
    .blockSizeRequired: "NBD_REP_ERR_BLOCK_SIZE_REQD",
    .tooBig: "NBD_REP_ERR_TOO_BIG",
    .extendedHeadersRequired: "NBD_REP_ERR_EXT_HEADER_REQD",
  ]

  /// The name in proto.md, such as `NBD_REP_ERR_POLICY`, or `reply type 0x8000002a`.
  package var description: String { Self.names[self] ?? "reply type 0x" + String(rawValue, radix: 16) }
}

/// What an NBD_REP_INFO reply is about (proto.md, "NBD_REP_INFO"). Any value can arrive.
package struct InfoCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  package let rawValue: UInt16

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let export = InfoCode(rawValue: 0)
  package static let name = InfoCode(rawValue: 1)
  package static let description = InfoCode(rawValue: 2)
  package static let blockSize = InfoCode(rawValue: 3)

  /// The name in proto.md, such as `NBD_INFO_EXPORT`, or `info type 9`.
  package var description: String {
    switch self {
    case .export: "NBD_INFO_EXPORT"
    case .name: "NBD_INFO_NAME"
    case .description: "NBD_INFO_DESCRIPTION"
    case .blockSize: "NBD_INFO_BLOCK_SIZE"
    default: "info type \(rawValue)"
    }
  }
}
