import CGnuTLS
import Glibc

/// What lets a later session with the same server do without certificates; as secret as a key, and wiped when it goes.
package final class TLSResumption: Sendable {
  // Never changed after it is made.
  private nonisolated(unsafe) let secret: Secret

  fileprivate init(_ secret: Secret) { self.secret = secret }

  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result { secret.withBytes(body) }
}

extension TLSSession {
  /// For `init(resuming:)` of the next session with the same server and the same credentials; `nil` while the server has
  /// given nothing to resume with (in TLS 1.3 that comes with its first data).
  ///
  /// A resumed session shows no certificate: keep it no longer than the credentials are good for.
  package var resumption: TLSResumption? {
    guard state == .established else { return nil }
    // In TLS 1.3, without a ticket, GnuTLS would wait for one.
    let hasTicket = gnutls_session_get_flags(session) & UInt32(GNUTLS_SFLAGS_SESSION_TICKET.rawValue) != 0
    guard hasTicket || gnutls_protocol_get_version(session) != GNUTLS_TLS1_3 else { return nil }
    var data = gnutls_datum_t()
    guard gnutls_session_get_data2(session, &data) >= 0, let bytes = data.data else { return nil }
    let copy = UnsafeMutableRawBufferPointer(start: bytes, count: Int(data.size))
    defer {
      Secret.wipe(copy)
      shim_gnutls_free(bytes)
    }
    return TLSResumption(Secret(UnsafeRawBufferPointer(copy)))
  }

  /// No certificate was shown: the session goes on from an earlier one.
  package var isResumed: Bool { gnutls_session_is_resumed(session) != 0 }

  /// Such as `TLS 1.3, AES-256-GCM`; `nil` before the handshake is done.
  package var summary: String? {
    guard state != .handshaking else { return nil }
    let version = gnutls_protocol_get_name(gnutls_protocol_get_version(session)).map { String(cString: $0) } ?? "TLS"
    let cipher = gnutls_cipher_get_name(gnutls_cipher_get(session)).map { String(cString: $0) } ?? "unknown cipher"
    let spaced = version.hasPrefix("TLS") ? "TLS " + version.dropFirst(3) : version
    return "\(spaced), \(cipher)"
  }

  func gnutlsTime() -> time_t { time(nil) }
}
