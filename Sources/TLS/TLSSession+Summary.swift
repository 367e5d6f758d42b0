import CGnuTLS

extension TLSSession {
  /// Such as `TLS 1.3, AES-256-GCM`; `nil` before the handshake is done.
  package var summary: String? {
    guard state != .handshaking else { return nil }
    let version = gnutls_protocol_get_name(gnutls_protocol_get_version(session)).map { String(cString: $0) } ?? "TLS"
    let cipher = gnutls_cipher_get_name(gnutls_cipher_get(session)).map { String(cString: $0) } ?? "unknown cipher"
    let spaced = version.hasPrefix("TLS") ? "TLS " + version.dropFirst(3) : version
    return "\(spaced), \(cipher)"
  }
}
