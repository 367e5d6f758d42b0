import AttachmentModel
import CGnuTLS
import CertificateLab
import Testing

@testable import TLS

/// A server's side of TLS, as the session under test sees it: the same class with a server's settings.
final class TestServer {
  enum Kind {
    case certificate(CertificateLab.Identity, clientAuthority: CertificateLab.Identity?)
    /// A file of `IDENTITY:KEY`.
    case presharedKeys(String)
  }

  let session: TLSSession
  // Never freed: a session may outlive this object.
  private var certificates: gnutls_certificate_credentials_t?
  private var keys: gnutls_psk_server_credentials_t?

  init(_ kind: Kind, priorities: String = "NORMAL:+ECDHE-PSK:+DHE-PSK", ticketKey: [UInt8]? = nil, socket: Int32? = nil)
    throws
  {
    session = try TLSSession(
      flags: UInt32(GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL), nil,
      .anybody(name: nil), socket: socket)
    try check(gnutls_priority_set_direct(session.session, priorities, nil))
    switch kind {
    case .certificate(let identity, let clientAuthority):
      try check(gnutls_certificate_allocate_credentials(&certificates))
      try check(
        gnutls_certificate_set_x509_key_file(
          certificates, identity.certificate, identity.key, GNUTLS_X509_FMT_PEM))
      if let clientAuthority {
        try check(
          gnutls_certificate_set_x509_trust_file(certificates, clientAuthority.certificate, GNUTLS_X509_FMT_PEM))
        gnutls_certificate_server_set_request(session.session, GNUTLS_CERT_REQUIRE)
        gnutls_session_set_verify_cert(session.session, nil, 0)
      }
      try check(
        gnutls_credentials_set(
          session.session, GNUTLS_CRD_CERTIFICATE, certificates.map { UnsafeMutableRawPointer($0) }))
    case .presharedKeys(let path):
      try check(gnutls_psk_allocate_server_credentials(&keys))
      try check(gnutls_psk_set_server_credentials_file(keys, path))
      try check(gnutls_psk_set_server_known_dh_params(keys, GNUTLS_SEC_PARAM_MEDIUM))
      try check(gnutls_credentials_set(session.session, GNUTLS_CRD_PSK, keys.map { UnsafeMutableRawPointer($0) }))
    }
    if var ticketKey {
      let code = ticketKey.withUnsafeMutableBufferPointer { bytes in
        var datum = gnutls_datum_t(data: bytes.baseAddress, size: UInt32(bytes.count))
        return gnutls_session_ticket_enable_server(session.session, &datum)
      }
      try check(code)
    }
  }

  /// The name that the client has asked for (RFC 6066, section 3).
  var toldName: String? {
    var (count, type) = (256, UInt32(0))
    var name = [UInt8](repeating: 0, count: count)
    guard gnutls_server_name_get(session.session, &name, &count, &type, 0) == GNUTLS_E_SUCCESS else { return nil }
    return String(decoding: name.prefix(count), as: UTF8.self)
  }

  static func newTicketKey() throws -> [UInt8] {
    var datum = gnutls_datum_t()
    try check(gnutls_session_ticket_key_generate(&datum))
    defer { shim_gnutls_free(datum.data) }
    return Array(UnsafeBufferPointer(start: datum.data, count: Int(datum.size)))
  }
}

/// Moves what `from` wants to send to `to`; how many bytes.
@discardableResult
func carry(_ from: TLSSession, to: TLSSession, change: (inout [UInt8]) -> Void = { _ in }) -> Int {
  var total = 0
  while true {
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    let count = bytes.withUnsafeMutableBytes { from.drain(into: $0) }
    guard count > 0 else { return total }
    bytes.removeLast(bytes.count - count)
    change(&bytes)
    total += bytes.withUnsafeBytes { to.feed($0) }
  }
}

/// Brings both through the handshake; throws what the client does, `serverError` gets what the server does.
func shakeHands(_ client: TLSSession, _ server: TLSSession, serverError: inout TLSError?) throws(TLSError) {
  for _ in 0..<50 {
    _ = try client.handshake()
    carry(client, to: server)
    if serverError == nil {
      do throws(TLSError) { _ = try server.handshake() } catch { serverError = error }
    }
    carry(server, to: client)
    if serverError != nil { client.feedEnd() }
    if client.state == .established, server.state == .established || serverError != nil { return }
  }
  throw .outOfStep
}

func shakeHands(_ client: TLSSession, _ server: TLSSession) throws {
  var serverError: TLSError?
  try shakeHands(client, server, serverError: &serverError)
  if let serverError { throw serverError }
}

extension TLSSession {
  /// Sends all that is taken; how much.
  func sendBytes(_ bytes: [UInt8], more: Bool = false) throws(TLSError) -> Transfer {
    var result = Transfer.wouldBlock
    var failure: TLSError?
    bytes.withUnsafeBytes { raw in
      do throws(TLSError) { result = try send(raw, more: more) } catch { failure = error }
    }
    if let failure { throw failure }
    return result
  }

  /// What is there now, at most `limit` bytes; `nil` at the end.
  func receiveBytes(_ limit: Int = 1 << 20) throws(TLSError) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: limit)
    var result = Transfer.wouldBlock
    var failure: TLSError?
    buffer.withUnsafeMutableBytes { raw in
      do throws(TLSError) { result = try receive(into: raw) } catch { failure = error }
    }
    if let failure { throw failure }
    switch result {
    case .count(let count): return Array(buffer[..<count])
    case .wouldBlock: return []
    case .end: return nil
    }
  }
}
