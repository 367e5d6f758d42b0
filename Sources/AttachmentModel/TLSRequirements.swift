/// What TLS with one server takes, put together from its URI and the `tls:` mapping: by what we prove who we are, and
/// what the server must prove.
package struct TLSRequirements: Equatable, Hashable, Sendable {
  /// Where credentials come from. A file is a path, or `credential:NAME` for a credential of the service
  /// (systemd.exec(5), LoadCredential=).
  package enum Credentials: Equatable, Hashable, Sendable {
    /// `authorities`: `nil` for those that the system trusts. `certificate` needs `key`.
    case certificates(authorities: String?, certificate: String?, key: String?)
    /// A directory with `ca-cert.pem`, and `client-cert.pem` and `client-key.pem` where the server wants them, as the
    /// URI parameter `tls-certificates` has it.
    case folder(String)
    /// A file of lines `IDENTITY:KEY`. `identity`: `nil` where there is one only.
    case presharedKey(file: String, identity: String?)
  }

  /// Whom the server must prove to be by its certificate. A pre-shared key is a proof of its own.
  package enum Server: Equatable, Hashable, Sendable {
    /// Of that name, or of that literal address.
    case named(String)
    /// Anybody: its certificate is not looked at. The name, if any, is asked for all the same.
    case anybody(name: String?)

    /// Without brackets and zone, where it is an address.
    package var name: String? {
      switch self {
      case .named(let name): name
      case .anybody(let name): name
      }
    }
  }

  /// Why a URI and a `tls:` mapping don't make sense together.
  package enum Problem: Error, Equatable, Sendable {
    /// `tls-type=anon`.
    case anonymous
    /// A Unix or vsock address has no name, and none is given.
    case noServerName
    /// `tls-type=psk` without a file of keys.
    case noPresharedKeys
  }

  package var credentials: Credentials
  package var server: Server
  /// GnuTLS' priority string.
  package var priorities: String?

  package init(credentials: Credentials, server: Server, priorities: String? = nil) {
    self.credentials = credentials
    self.server = server
    self.priorities = priorities
  }

  /// `uri` must be one with TLS. What stands in the URI goes before what stands in the mapping.
  package init(_ uri: ServerURI, _ spec: TLSSpec?) throws(Problem) {
    let parameters = uri.tlsParameters
    let name = parameters["tls-hostname"] ?? spec?.serverName ?? uri.hostName
    let type = parameters["tls-type"]
    let file = parameters["tls-psk-file"] ?? spec?.pskFile
    priorities = spec?.priority
    guard type != "anon" else { throw .anonymous }
    if type == "psk" || type == nil && parameters["tls-certificates"] == nil && file != nil {
      guard let file else { throw .noPresharedKeys }
      credentials = .presharedKey(file: file, identity: uri.userName ?? spec?.pskIdentity)
      server = .anybody(name: name)
      return
    }
    if let folder = parameters["tls-certificates"] {
      credentials = .folder(folder)
    } else {
      credentials = .certificates(
        authorities: spec?.caFile, certificate: spec?.certificateFile, key: spec?.keyFile)
    }
    if spec?.verify == TLSVerification.none || parameters["tls-verify-peer"] == "0" {
      server = .anybody(name: name)
    } else {
      guard let name else { throw .noServerName }
      server = .named(name)
    }
  }

  /// A certificate is the server's proof, and nobody looks at it.
  package var isUnverified: Bool {
    switch (credentials, server) {
    case (.presharedKey, _), (_, .named): false
    case (_, .anybody): true
    }
  }
}

extension TLSRequirements.Problem {
  package var message: String {
    switch self {
    case .anonymous: "anonymous TLS protects from nobody who stands between, and is not done"
    case .noServerName: "no name to compare the server's certificate with"
    case .noPresharedKeys: "`tls-type=psk` needs a file of keys"
    }
  }

  package var hint: String {
    switch self {
    case .anonymous: "leave `tls-type=anon` out, and use certificates or pre-shared keys"
    case .noServerName: "give `tls-hostname` in the URI or `tls.server-name`, or say `verify: none` if anybody will do"
    case .noPresharedKeys: "give `tls-psk-file` in the URI or `tls.psk-file`"
    }
  }
}

extension ServerURI {
  /// What its certificate would be for, where the address has any.
  fileprivate var hostName: String? {
    guard case .tcp(let host, _) = address else { return nil }
    // The zone of an address means something on this machine only.
    return host.utf8.contains(UInt8(ascii: ":")) ? String(host.prefix { $0 != "%" }) : host
  }
}
