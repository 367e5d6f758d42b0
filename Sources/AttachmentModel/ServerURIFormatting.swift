extension ServerURI: CustomStringConvertible {
  /// The URI; reading it gives an equal value, where the value could be written as a URI at all.
  package var uriString: String {
    let transport: URIScheme.Transport
    var authority = userName.map { PercentEncoding.encode($0, isPlain: \.isUnreserved) + "@" } ?? ""
    var parameters: [String] = []
    switch address {
    case .tcp(let host, let port):
      transport = .tcp
      authority += Self.bracketed(host)
      if port != Self.defaultPort { authority += ":\(port)" }
    case .unix(let path, let isAbstract):
      transport = .unix
      parameters.append("socket=\(isAbstract ? "%00" : "")\(Self.encodedValue(path))")
    case .vsock(let cid, let port):
      transport = .vsock
      authority += "\(cid)"
      if port != UInt32(Self.defaultPort) { authority += ":\(port)" }
    }
    for key in URIParameters.tlsKeys {
      if let value = tlsParameters[key] { parameters.append("\(key)=\(Self.encodedValue(value))") }
    }
    var text = URIScheme.name(transport, usingTLS: usesTLS) + authority
    if !exportName.isEmpty || !parameters.isEmpty {
      text += "/" + PercentEncoding.encode(exportName) { $0.isUnreserved || plainInPath.contains($0) }
    }
    if !parameters.isEmpty { text += "?" + parameters.joined(separator: "&") }
    return text
  }

  package var description: String { uriString }

  private static func bracketed(_ host: String) -> String {
    guard host.utf8.contains(UInt8(ascii: ":")) else { return host }
    return "[" + PercentEncoding.encode(host) { $0 != UInt8(ascii: "%") } + "]"
  }

  private static func encodedValue(_ value: String) -> String {
    PercentEncoding.encode(value) { $0.isUnreserved || plainInValue.contains($0) }
  }
}

extension ServerAddress: CustomStringConvertible {
  /// For messages: `storage1:10809`, `[2001:db8::1]:10809`, `/run/nbd.sock`, `@name` (abstract), `vsock 2:10809`.
  package var description: String {
    switch self {
    case .tcp(let host, let port): host.utf8.contains(UInt8(ascii: ":")) ? "[\(host)]:\(port)" : "\(host):\(port)"
    case .unix(let path, let isAbstract): isAbstract ? "@\(path)" : path
    case .vsock(let cid, let port): "vsock \(cid):\(port)"
    }
  }
}

/// Of `pchar` and the slash, what needs no escape in an export name; the rest is escaped for the shell's sake.
private let plainInPath = Set("/:@,+=".utf8)
private let plainInValue = Set("/:@,".utf8)
