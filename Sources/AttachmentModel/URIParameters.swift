/// The query of an NBD URI: `socket` and the TLS parameters, each at most once, each checked.
struct URIParameters {
  /// Offsets of the value of `socket`.
  var socket: Range<Int>?
  /// Percent-decoded, by key.
  var tls: [String: String] = [:]

  static let tlsKeys = ["tls-type", "tls-hostname", "tls-verify-peer", "tls-certificates", "tls-psk-file"]

  init(_ parser: URIParser, _ query: Range<Int>?, scheme: URIScheme) throws(TextError) {
    guard let query else { return }
    var seen: Set<String> = []
    for piece in parser.bytes[query].split(separator: UInt8(ascii: "&"), omittingEmptySubsequences: true) {
      let range = piece.startIndex..<piece.endIndex
      let equals = piece.firstIndex(of: UInt8(ascii: "="))
      let keyRange = range.lowerBound..<(equals ?? range.upperBound)
      let key = try parser.decode(keyRange, .parameter, "the parameter's name")
      let value = (equals.map { $0 + 1 } ?? range.upperBound)..<range.upperBound
      guard seen.insert(key).inserted else {
        throw TextError(.parameter, range, "the parameter \(key.quoted()) is given twice")
      }
      switch key {
      case "socket":
        guard scheme.transport == .unix else {
          throw TextError(
            .parameter, range, "only a Unix socket has the parameter `socket`",
            hint: "write `\(URIScheme.name(.unix, usingTLS: scheme.usesTLS))/?socket=…`")
        }
        socket = value
      case _ where Self.tlsKeys.contains(key):
        guard scheme.usesTLS else {
          throw TextError(
            .parameter, range, "\(key.quoted()) means nothing without TLS",
            hint: "write `\(scheme.name(usingTLS: true))`")
        }
        tls[key] = try Self.tlsValue(parser, key, value)
      default:
        let hint = Spelling.closest(to: key, among: Self.tlsKeys + ["socket"]).map { "did you mean `\($0)`?" }
        throw TextError(
          .parameter, keyRange, "unknown parameter \(key.quoted())",
          hint: hint ?? "a literal ? in an export name is written %3F")
      }
    }
    try checkTLS(query)
  }

  private static func tlsValue(_ parser: URIParser, _ key: String, _ range: Range<Int>) throws(TextError) -> String {
    let value = try parser.decode(range, .parameter, key.quoted())
    let allowed =
      switch key {
      case "tls-type": ["anon", "x509", "psk"]
      case "tls-verify-peer": ["0", "1"]
      default: [String]()
      }
    if !allowed.isEmpty, !allowed.contains(value) {
      throw TextError(
        .parameter, range, "\(value.quoted()) is no value of `\(key)`",
        hint: "the values are \(allowed.joined(separator: ", "))")
    }
    guard !value.isEmpty else { throw TextError(.parameter, range, "`\(key)` has no value") }
    if key == "tls-hostname", let problem = HostName.problem(value), HostName.ipv6Problem(value) != nil {
      throw TextError(.parameter, range, problem.message, hint: problem.hint)
    }
    return value
  }

  /// The parameters agree on one kind of authentication.
  private func checkTLS(_ query: Range<Int>) throws(TextError) {
    let usesKey = tls["tls-psk-file"] != nil
    if usesKey, tls["tls-certificates"] != nil {
      throw TextError(.parameter, query, "`tls-psk-file` and `tls-certificates` exclude each other")
    }
    if usesKey, let type = tls["tls-type"], type != "psk" {
      throw TextError(.parameter, query, "`tls-psk-file` needs `tls-type=psk`, not \(type.quoted())")
    }
    if tls["tls-certificates"] != nil, tls["tls-type"] == "psk" {
      throw TextError(.parameter, query, "`tls-certificates` and `tls-type=psk` exclude each other")
    }
  }

  /// `sun_path` has 108 bytes: a path ends with a NUL, an abstract name begins with one.
  static let maximumSocketLength = 107

  func unixAddress(_ parser: URIParser, authority: URIAuthority) throws(TextError) -> ServerAddress {
    let host = authority.host.lowerBound..<authority.range.upperBound
    guard host.isEmpty else {
      throw TextError(
        .host, host, "a Unix socket has no host", hint: "write three slashes, `nbd+unix:///EXPORT?socket=PATH`")
    }
    let end = parser.bytes.count
    guard let socket else {
      throw TextError(
        .parameter, end..<end, "the parameter `socket` is missing", hint: "write `nbd+unix:///EXPORT?socket=PATH`")
    }
    let escapedNUL = "%00".utf8.count
    let isAbstract = parser.bytes[socket].starts(with: "%00".utf8)
    let nameRange = socket.lowerBound + (isAbstract ? escapedNUL : 0)..<socket.upperBound
    let path = try parser.decode(nameRange, .parameter, "the name of the socket")
    guard !path.isEmpty else { throw TextError(.parameter, socket, "the name of the socket is empty") }
    guard path.utf8.count <= Self.maximumSocketLength else {
      throw TextError(
        .parameter, socket,
        "the name of the socket has \(path.utf8.count) bytes; the kernel takes \(Self.maximumSocketLength)")
    }
    return .unix(path: path, isAbstract: isAbstract)
  }
}
