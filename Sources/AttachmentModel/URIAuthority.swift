/// `user@host:port` of a URI, located but not yet judged: what it may be depends on the scheme.
struct URIAuthority {
  var userNameRange: Range<Int>?
  /// Without the brackets of an IPv6 address.
  var host: Range<Int>
  var isBracketed: Bool
  /// `nil` where there is no colon, or nothing after it.
  var port: Range<Int>?
  var range: Range<Int>

  init(_ parser: URIParser, _ range: Range<Int>) throws(TextError) {
    self.range = range
    var rest = range
    if let at = parser.bytes[range].lastIndex(of: UInt8(ascii: "@")) {
      userNameRange = range.lowerBound..<at
      rest = at + 1..<range.upperBound
    }
    let afterHost: Int
    isBracketed = rest.lowerBound < rest.upperBound && parser.bytes[rest.lowerBound] == UInt8(ascii: "[")
    if isBracketed {
      guard let close = parser.bytes[rest].firstIndex(of: UInt8(ascii: "]")) else {
        throw TextError(.host, rest, "the bracket of the IPv6 address is not closed")
      }
      host = rest.lowerBound + 1..<close
      afterHost = close + 1
    } else {
      let colons = parser.bytes[rest].indices.filter { parser.bytes[$0] == UInt8(ascii: ":") }
      if colons.count > 1 {
        let text = parser.text(rest)
        throw TextError(
          .host, rest, "\(text.quoted()) has more than one colon",
          hint: "an IPv6 address stands in brackets: `[\(text)]`")
      }
      afterHost = colons.first ?? rest.upperBound
      host = rest.lowerBound..<afterHost
    }
    guard afterHost < rest.upperBound else { return }
    guard parser.bytes[afterHost] == UInt8(ascii: ":") else {
      throw TextError(
        .port, afterHost..<rest.upperBound, "\(parser.text(afterHost..<rest.upperBound).quoted()) follows the address",
        hint: "only a colon and a port may")
    }
    if afterHost + 1 < rest.upperBound { port = afterHost + 1..<rest.upperBound }
  }

  func userName(_ parser: URIParser) throws(TextError) -> String? {
    guard let range = userNameRange, !range.isEmpty else { return nil }
    return try parser.decode(range, .userName, "the user name")
  }

  func tcpAddress(_ parser: URIParser) throws(TextError) -> ServerAddress {
    guard !host.isEmpty else {
      throw TextError(
        .host, host, "the host is missing", hint: "write `nbd://HOST/EXPORT`; a Unix socket needs `nbd+unix:///`")
    }
    let text = try parser.decode(host, .host, "the host")
    let problem = isBracketed ? HostName.ipv6Problem(text) : HostName.problem(text)
    if let problem { throw TextError(.host, host, problem.message, hint: problem.hint) }
    let number = try number(parser, port, .port, in: 1...UInt32(UInt16.max)) ?? UInt32(ServerURI.defaultPort)
    return .tcp(host: text, port: UInt16(truncatingIfNeeded: number))
  }

  /// CID and port of a vsock address; both default, to the host's CID and NBD's port.
  func vsockAddress(_ parser: URIParser) throws(TextError) -> ServerAddress {
    if isBracketed { throw TextError(.host, host, "a vsock address is a number (the CID), not an IPv6 address") }
    let cid = try number(parser, host.isEmpty ? nil : host, .host, in: 0...UInt32.max - 1)
    let port = try number(parser, port, .port, in: 1...UInt32.max - 1)
    return .vsock(cid: cid ?? 2, port: port ?? UInt32(ServerURI.defaultPort))
  }

  private func number(
    _ parser: URIParser, _ range: Range<Int>?, _ part: TextError.Part, in bounds: ClosedRange<UInt32>
  ) throws(TextError) -> UInt32? {
    guard let range else { return nil }
    let text = parser.text(range)
    let what = part == .port ? "port" : "CID"
    guard parser.bytes[range].allSatisfy(\.isDigit) else {
      throw TextError(part, range, "the \(what) \(text.quoted()) is no number")
    }
    guard let number = UInt32(text), bounds.contains(number) else {
      throw TextError(part, range, "the \(what) is not between \(bounds.lowerBound) and \(bounds.upperBound)")
    }
    return number
  }
}
