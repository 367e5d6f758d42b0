/// What protects the links of an attachment.
package struct LinkSecurity: Equatable, Sendable, Codable {
  /// Who makes the records: the relay, or the kernel.
  package enum Place: String, CaseIterable, Sendable, Codable {
    case relay
    case kernel
  }

  /// Such as `TLS 1.3`.
  package var version: String
  /// Such as `AES-256-GCM`.
  package var cipher: String
  package var place: Place
  /// The server has proved who it is.
  package var isServerVerified: Bool

  package init(version: String, cipher: String, place: Place, isServerVerified: Bool) {
    self.version = version
    self.cipher = cipher
    self.place = place
    self.isServerVerified = isServerVerified
  }
}

/// How far a link is protected, from nothing up.
package enum Protection: Int, Comparable, Sendable {
  case none
  /// By TLS, to whoever answers.
  case unverified
  /// By TLS, to a server that has proved who it is.
  case verified

  package init(_ security: LinkSecurity?) {
    self = security.map { $0.isServerVerified ? .verified : .unverified } ?? .none
  }

  package static func < (one: Protection, other: Protection) -> Bool { one.rawValue < other.rawValue }
}

extension AttachmentSpec {
  /// Of a link to that server.
  package func protection(by server: ServerURI) -> Protection {
    guard server.usesTLS else { return .none }
    // Where URI and `tls:` make no sense together there will be no link.
    guard let requirements = try? TLSRequirements(server, tls) else { return .verified }
    return requirements.isUnverified ? .unverified : .verified
  }

  /// What no link may be without: the least that a server with TLS is declared with.
  package var requiredProtection: Protection {
    servers.filter(\.usesTLS).map(protection).min() ?? .none
  }
}
