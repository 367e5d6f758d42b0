extension ServerURI {
  /// The port that IANA assigned to NBD; of vsock addresses too.
  package static let defaultPort: UInt16 = 10809

  /// Reads an NBD URI (`doc/uri.md` of the nbd project), strictly: what RFC 3986 does not allow unescaped, what the
  /// specification does not know, and what could only be ignored, is an error.
  ///
  /// Beyond the specification: TLS parameters and a user name need `nbds`, `nbds+unix` or `nbds+vsock`; a TCP
  /// address needs a host; vsock addresses default to the host (CID 2); `tls-certificates` and `tls-psk-file` are
  /// libnbd's.
  package init(parsing text: String) throws(TextError) {
    let parser = URIParser(bytes: Array(text.utf8))
    try parser.checkCharacters()
    let scheme = try parser.scheme()
    let pieces = try parser.pieces(after: scheme)
    let authority = try URIAuthority(parser, pieces.authority)
    let parameters = try URIParameters(parser, pieces.query, scheme: scheme)

    address =
      switch scheme.transport {
      case .tcp: try authority.tcpAddress(parser)
      case .unix: try parameters.unixAddress(parser, authority: authority)
      case .vsock: try authority.vsockAddress(parser)
      }
    exportName = try parser.exportName(pieces.path)
    usesTLS = scheme.usesTLS
    userName = try authority.userName(parser)
    if let userName = authority.userNameRange, !scheme.usesTLS {
      throw TextError(
        .userName, userName, "a user name means nothing without TLS", hint: "write `\(scheme.name(usingTLS: true))`")
    }
    tlsParameters = parameters.tls
  }
}

/// The scheme of an NBD URI, taken apart.
struct URIScheme {
  enum Transport: String, CaseIterable {
    case tcp = ""
    case unix = "+unix"
    case vsock = "+vsock"
  }

  var usesTLS: Bool
  var transport: Transport
  var range: Range<Int>

  func name(usingTLS: Bool) -> String { Self.name(transport, usingTLS: usingTLS) }

  static func name(_ transport: Transport, usingTLS: Bool) -> String {
    "nbd\(usingTLS ? "s" : "")\(transport.rawValue)://"
  }

  static let names = ["nbd", "nbds", "nbd+unix", "nbds+unix", "nbd+vsock", "nbds+vsock"]
}

/// The text of a URI, and how its pieces are found in it. Ranges are offsets into `bytes`.
struct URIParser {
  var bytes: [UInt8]

  /// An export name of 4096 bytes, each escaped, and room for the rest.
  static let maximumLength = 16_384

  func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

  /// Every byte may stand in a URI, and every `%` is followed by two hexadecimal digits.
  func checkCharacters() throws(TextError) {
    guard bytes.count <= Self.maximumLength else {
      throw TextError(.whole, 0..<bytes.count, "the URI is longer than \(Self.maximumLength) bytes")
    }
    if let space = bytes.first, space == UInt8(ascii: " ") || bytes.last == UInt8(ascii: " ") {
      throw TextError(.whole, 0..<bytes.count, "there is a space before or after the URI")
    }
    for (index, byte) in bytes.enumerated() {
      if byte == UInt8(ascii: "%") {
        try checkEscape(at: index)
      } else if byte == UInt8(ascii: "#") {
        throw TextError(.whole, index..<bytes.count, "an NBD URI has no fragment", hint: "a literal # is written %23")
      } else if !byte.isAllowedInURI {
        let range = characterRange(at: index)
        let escaped = PercentEncoding.encode(text(range)) { _ in false }
        throw TextError(
          .whole, range, "\(text(range).quoted()) may not stand in a URI as it is", hint: "write it as `\(escaped)`")
      }
    }
  }

  private func checkEscape(at index: Int) throws(TextError) {
    let digits = bytes[index...].dropFirst().prefix(2)
    if digits.count == 2, digits.allSatisfy({ $0.hexValue != nil }) { return }
    let inBrackets = bytes[..<index].lastIndex(of: UInt8(ascii: "[")) ?? -1
    let isZone = inBrackets >= 0 && !bytes[inBrackets..<index].contains(UInt8(ascii: "]"))
    throw TextError(
      .whole, index..<digits.endIndex, "% is not followed by two hexadecimal digits",
      hint: isZone ? "the zone of an IPv6 address is written `%25eth0`" : "a literal % is written %25")
  }

  /// The whole character that the byte at `index` begins.
  private func characterRange(at index: Int) -> Range<Int> {
    let following = bytes[index...].dropFirst().prefix(while: { $0 & 0xC0 == 0x80 })
    return index..<following.endIndex
  }

  func scheme() throws(TextError) -> URIScheme {
    let all = 0..<bytes.count
    guard !bytes.isEmpty else { throw TextError(.whole, all, "the URI is empty", hint: "write `nbd://HOST/EXPORT`") }
    guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")) else {
      let whole = text(all)
      throw TextError(
        .scheme, all, "\(whole.quoted()) is no NBD URI",
        hint: whole.hasPrefix("/")
          ? "a Unix socket is written `nbd+unix:///?socket=\(whole)`" : "write `nbd://\(whole)`")
    }
    let name = text(0..<colon).lowercased()
    let hasSlashes = bytes[colon...].dropFirst().starts(with: "//".utf8)
    for transport in URIScheme.Transport.allCases {
      for usesTLS in [false, true] where name == "nbd\(usesTLS ? "s" : "")\(transport.rawValue)" {
        guard hasSlashes else {
          throw TextError(
            .scheme, 0..<colon + 1, "the scheme is not followed by `//`",
            hint: "write `\(URIScheme.name(transport, usingTLS: usesTLS))…`")
        }
        return URIScheme(usesTLS: usesTLS, transport: transport, range: 0..<colon)
      }
    }
    guard hasSlashes else {
      throw TextError(.scheme, all, "\(text(all).quoted()) has no scheme", hint: "write `nbd://\(text(all))`")
    }
    throw TextError(
      .scheme, 0..<colon, "unknown scheme \(text(0..<colon).quoted())",
      hint: Spelling.closest(to: name, among: URIScheme.names).map { "did you mean `\($0)`?" }
        ?? "the schemes are \(URIScheme.names.joined(separator: ", "))")
  }

  struct Pieces {
    var authority: Range<Int>
    /// Begins with its slash, where there is one.
    var path: Range<Int>
    /// Without its question mark; `nil` where there is none.
    var query: Range<Int>?
  }

  func pieces(after scheme: URIScheme) throws(TextError) -> Pieces {
    let start = scheme.range.upperBound + "://".utf8.count
    let question = bytes[start...].firstIndex(of: UInt8(ascii: "?"))
    let end = question ?? bytes.count
    let slash = bytes[start..<end].firstIndex(of: UInt8(ascii: "/")) ?? end
    for index in slash..<bytes.count where bytes[index] == UInt8(ascii: "[") || bytes[index] == UInt8(ascii: "]") {
      let escaped = bytes[index] == UInt8(ascii: "[") ? "%5B" : "%5D"
      throw TextError(
        .whole, index..<index + 1, "brackets may only stand around an IPv6 address", hint: "write it as `\(escaped)`")
    }
    return Pieces(authority: start..<slash, path: slash..<end, query: question.map { $0 + 1..<bytes.count })
  }

  func exportName(_ path: Range<Int>) throws(TextError) -> String {
    let range = path.isEmpty ? path : path.lowerBound + 1..<path.upperBound
    let name = try decode(range, .exportName, "the export name")
    guard name.utf8.count <= 4096 else {
      throw TextError(.exportName, range, "the export name is longer than 4096 bytes, the protocol's limit")
    }
    return name
  }

  /// Percent-decodes; the result is UTF-8 without NUL.
  func decode(_ range: Range<Int>, _ part: TextError.Part, _ what: String) throws(TextError) -> String {
    let decoded = PercentEncoding.decode(bytes[range])
    guard !decoded.contains(0) else { throw TextError(part, range, "\(what) contains a NUL character") }
    guard let text = String(validating: decoded, as: UTF8.self) else {
      throw TextError(part, range, "\(what) is not valid UTF-8")
    }
    return text
  }
}
