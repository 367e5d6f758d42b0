import AttachmentModel
import CGnuTLS
import Glibc

/// What GnuTLS' codes mean to the user.
extension TLSSession {
  /// The server asked for a client certificate, and whether it likes ours it says only after the handshake (TLS 1.3).
  package var wasAskedForCertificate: Bool { gnutls_certificate_client_get_request_status(session) != 0 }

  /// What it most likely means that the server ended the connection before it had sent anything: in TLS 1.3 the client
  /// is through with the handshake before the server has looked at the client's certificate. `nil`: nothing of TLS.
  package var suspicionAfterEnd: TLSError? {
    guard wasAskedForCertificate, !hasReceived, case .certificates(_, _, let hasCertificate)? = credentials?.kind else {
      return nil
    }
    return .clientCertificateRefused(wasPresented: hasCertificate, alert: nil)
  }

  private var presharedIdentity: String? {
    if case .presharedKey(_, let identity)? = credentials?.kind { identity } else { nil }
  }

  func explain(_ code: Int32) -> TLSError {
    if let failure = transport.failure { return failure }
    switch code {
    case GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR: return certificateError
    case GNUTLS_E_FATAL_ALERT_RECEIVED: return alertError
    case GNUTLS_E_PREMATURE_TERMINATION:
      // Most servers close without an alert over a key that they don't take.
      return presharedIdentity.map { .presharedKeyRefused(identity: $0, alert: nil) } ?? .closed
    case GNUTLS_E_UNEXPECTED_PACKET_LENGTH, GNUTLS_E_UNSUPPORTED_VERSION_PACKET, GNUTLS_E_UNEXPECTED_PACKET,
      GNUTLS_E_UNEXPECTED_HANDSHAKE_PACKET, GNUTLS_E_DECRYPTION_FAILED, GNUTLS_E_RECORD_OVERFLOW,
      GNUTLS_E_RECORD_LIMIT_REACHED, GNUTLS_E_MAC_VERIFY_FAILED:
      return .notTLS
    case GNUTLS_E_REHANDSHAKE, GNUTLS_E_REAUTH_REQUEST: return .renegotiation
    case GNUTLS_E_NO_CIPHER_SUITES, GNUTLS_E_UNKNOWN_CIPHER_SUITE, GNUTLS_E_NO_COMMON_KEY_SHARE,
      GNUTLS_E_NO_PRIORITIES_WERE_SET:
      return .nothingInCommon(usesPresharedKey: presharedIdentity != nil)
    default: return .library(code, LibraryError(code).text)
    }
  }

  private var alertError: TLSError {
    let alert = gnutls_alert_get(session)
    let name = gnutls_alert_get_name(alert).map { shown(String(cString: $0)) } ?? "unknown"
    // Servers end it with all kinds of alerts over a certificate that is missing.
    if case .clientCertificateRefused(let wasPresented, _)? = suspicionAfterEnd {
      return .clientCertificateRefused(wasPresented: wasPresented, alert: name)
    }
    switch alert {
    case GNUTLS_A_BAD_CERTIFICATE, GNUTLS_A_UNSUPPORTED_CERTIFICATE, GNUTLS_A_CERTIFICATE_REVOKED,
      GNUTLS_A_CERTIFICATE_EXPIRED, GNUTLS_A_CERTIFICATE_UNKNOWN, GNUTLS_A_UNKNOWN_CA, GNUTLS_A_ACCESS_DENIED,
      GNUTLS_A_CERTIFICATE_REQUIRED:
      if case .certificates(_, _, let hasCertificate)? = credentials?.kind {
        return .clientCertificateRefused(wasPresented: hasCertificate, alert: name)
      }
    case GNUTLS_A_UNKNOWN_PSK_IDENTITY, GNUTLS_A_DECRYPT_ERROR, GNUTLS_A_BAD_RECORD_MAC, GNUTLS_A_ILLEGAL_PARAMETER:
      if let presharedIdentity { return .presharedKeyRefused(identity: presharedIdentity, alert: name) }
    case GNUTLS_A_HANDSHAKE_FAILURE, GNUTLS_A_PROTOCOL_VERSION, GNUTLS_A_INSUFFICIENT_SECURITY,
      GNUTLS_A_MISSING_EXTENSION:
      return .nothingInCommon(usesPresharedKey: presharedIdentity != nil)
    case GNUTLS_A_UNRECOGNIZED_NAME:
      if let name = server.name { return .unknownServerName(name) }
    default: break
    }
    return .alert(UInt8(truncatingIfNeeded: alert.rawValue), name)
  }

  private var certificateError: TLSError {
    let status = gnutls_session_get_verify_cert_status(session)
    let chain = peerChain
    var problems: [CertificateProblem] = []
    func has(_ flag: gnutls_certificate_status_t) -> Bool { status & flag.rawValue != 0 }
    if has(GNUTLS_CERT_SIGNER_NOT_FOUND) || has(GNUTLS_CERT_SIGNER_NOT_CA) {
      let isAlone = chain.count == 1 && chain.first?.isSelfSigned == true
      problems.append(isAlone ? .selfSigned : .unknownAuthority(issuer: chain.last?.issuer ?? "no name"))
    }
    if has(GNUTLS_CERT_REVOKED) { problems.append(.revoked) }
    if has(GNUTLS_CERT_SIGNATURE_FAILURE) { problems.append(.badSignature) }
    if has(GNUTLS_CERT_INSECURE_ALGORITHM) { problems.append(.insecureAlgorithm) }
    if has(GNUTLS_CERT_EXPIRED) {
      let now = time(nil)
      let index = chain.firstIndex { $0.expiration < now } ?? 0
      problems.append(.expired(date(chain, index, \.expiration), subject: index > 0 ? chain[index].subject : nil))
    }
    if has(GNUTLS_CERT_NOT_ACTIVATED) {
      let now = time(nil)
      let index = chain.firstIndex { $0.activation > now } ?? 0
      problems.append(.notYetValid(date(chain, index, \.activation), subject: index > 0 ? chain[index].subject : nil))
    }
    if has(GNUTLS_CERT_UNEXPECTED_OWNER) {
      problems.append(.wrongName(expected: shown(server.name ?? ""), names: chain.first?.names ?? []))
    }
    if has(GNUTLS_CERT_PURPOSE_MISMATCH) { problems.append(.wrongPurpose) }
    if problems.isEmpty { problems.append(.other(statusText(status))) }
    var ownAuthorities = false
    if case .certificates(_, let own, _)? = credentials?.kind { ownAuthorities = own }
    return .certificate(problems, ownAuthorities: ownAuthorities)
  }

  /// The server's certificate, and those that it sent after it.
  private var peerChain: [Certificate] {
    var count: UInt32 = 0
    guard let list = gnutls_certificate_get_peers(session, &count) else { return [] }
    return UnsafeBufferPointer(start: list, count: Int(min(count, 16))).compactMap { Certificate($0) }
  }

  private func date(_ chain: [Certificate], _ index: Int, _ time: KeyPath<Certificate, Int>) -> String {
    chain.indices.contains(index) ? Certificate.date(chain[index][keyPath: time]) : "an unknown date"
  }

  private func statusText(_ status: UInt32) -> String {
    var text = gnutls_datum_t()
    guard gnutls_certificate_verification_status_print(status, gnutls_certificate_type_get(session), &text, 0) >= 0,
      let data = text.data
    else { return "unknown reason" }
    defer { shim_gnutls_free(data) }
    return shown(String(decoding: UnsafeBufferPointer(start: data, count: Int(text.size)), as: UTF8.self), limit: 300)
  }
}
