import CGnuTLS

extension TLSSession {
  /// Such as `TLS 1.3, AES-256-GCM`; `nil` before the handshake is done.
  package var summary: String? { state == .handshaking ? nil : "\(version), \(cipher)" }

  /// Such as `TLS 1.3`, once the handshake is done.
  package var version: String { versionName(of: gnutls_protocol_get_version(session)) }

  /// Such as `AES-256-GCM`, once the handshake is done.
  package var cipher: String { cipherName(of: gnutls_cipher_get(session)) }
}

func versionName(of version: gnutls_protocol_t) -> String {
  guard let name = gnutls_protocol_get_name(version) else { return "an unknown version of TLS" }
  let text = String(cString: name)
  return text.hasPrefix("TLS") ? "TLS " + text.dropFirst(3) : text
}

func cipherName(of cipher: gnutls_cipher_algorithm_t) -> String {
  gnutls_cipher_get_name(cipher).map { String(cString: $0) } ?? "an unknown cipher"
}
