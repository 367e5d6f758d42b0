import Glibc

extension TLSError: CustomStringConvertible {
  package var description: String { message }

  /// One line for operators, without a full stop; what came from the server is stripped of control characters and
  /// bounded.
  package var message: String {
    switch self {
    case .certificate(let problems, let ownAuthorities):
      problems.map { $0.message(ownAuthorities: ownAuthorities) }.joined(separator: "; ")
    case .clientCertificateRefused(true, let alert): "the server refused the client certificate" + Self.said(alert)
    case .clientCertificateRefused(false, let alert):
      "the server wants a client certificate, and there is none" + Self.said(alert)
    case .presharedKeyRefused(let identity, let alert):
      "the server refused the pre-shared key of \(quotedName(identity))" + Self.said(alert)
    case .nothingInCommon: "the server and this client have no way of TLS in common"
    case .unknownServerName(let name): "the server does not know the name \(name)"
    case .alert(let number, let name): "the server ended TLS with alert \(number), \(name)"
    case .notTLS: "what the server sent is not TLS, or was changed on its way"
    case .noData: "the server sends TLS records without end, and no data in them"
    case .closed: "the server closed the connection during the TLS handshake"
    case .renegotiation: "the server asked to negotiate TLS anew, which is not done"
    case .system(let call, let code): "\(call): \(String(cString: strerror(code)))"
    case .file(let file, let path, let problem): problem.message(file, path)
    case .priority(let text, let offset):
      "the TLS priorities can't be understood from \(quotedName(Self.rest(of: text, from: offset))) on"
    case .kernel(let obstacle): obstacle.message
    case .library(let code, let text): "TLS failed: \(text) (GnuTLS \(code))"
    case .outOfStep: "TLS got out of step with its connection (a defect of nbdattach)"
    }
  }

  /// What the operator can do, one line; `nil` where there is nothing but to wait.
  package var hint: String? {
    switch self {
    case .certificate(let problems, _): problems.first?.hint
    case .clientCertificateRefused(true, _):
      "the server's log says why; its ca-file must hold the authority that signed the client certificate"
    case .clientCertificateRefused(false, _): "give tls.certificate-file and tls.key-file"
    case .presharedKeyRefused: "compare tls.psk-identity and the key in tls.psk-file with those of the server"
    case .nothingInCommon(true): "does the server have TLS 1.2 or 1.3, and pre-shared keys rather than certificates?"
    case .nothingInCommon(false): "does the server have TLS 1.2 or 1.3, and certificates rather than pre-shared keys?"
    case .unknownServerName: "give the name in the server's certificate as tls.server-name"
    case .notTLS, .noData: "somebody between may have changed it, or the server's TLS is broken"
    case .file(let file, let path, let problem): problem.hint(file, path)
    case .priority: "gnutls-cli --priority-list shows the words"
    case .kernel(let obstacle): obstacle.hint
    case .alert, .closed, .renegotiation, .system, .library, .outOfStep: nil
    }
  }

  private static func said(_ alert: String?) -> String { alert.map { " (TLS alert: \($0))" } ?? "" }

  private static func rest(of text: String, from offset: Int) -> String {
    String(decoding: text.utf8.dropFirst(max(0, offset)), as: UTF8.self)
  }
}

extension CertificateProblem {
  func message(ownAuthorities: Bool) -> String {
    switch self {
    case .wrongName(let expected, let names):
      "the certificate is for \(Self.list(names)), and \(expected) is expected"
    case .expired(let date, nil): "the server's certificate expired on \(date)"
    case .expired(let date, let subject?):
      "the certificate of \(subject), which signed the server's, expired on \(date)"
    case .notYetValid(let date, nil): "the server's certificate is not valid before \(date)"
    case .notYetValid(let date, let subject?):
      "the certificate of \(subject), which signed the server's, is not valid before \(date)"
    case .unknownAuthority(let issuer):
      "the server's certificate is signed by an authority that "
        + (ownAuthorities ? "ca-file does not hold" : "this system does not trust") + " (\(issuer))"
    case .selfSigned: "the server's certificate is signed by itself, not by an authority"
    case .revoked: "the server's certificate is revoked"
    case .badSignature: "the signature on the server's certificate is wrong"
    case .insecureAlgorithm: "the server's certificate is signed in a way that is no longer secure"
    case .wrongPurpose: "the server's certificate is not one for servers (its extended key usage)"
    case .other(let text): "the server's certificate can't be trusted: \(text)"
    }
  }

  var hint: String? {
    switch self {
    case .wrongName: "tls.server-name says which name is expected; the URI's host unless given"
    case .expired: "renew it on the server"
    case .notYetValid: "is the clock of this machine right?"
    case .unknownAuthority, .selfSigned: "tls.ca-file must hold the authority that signed the server's certificate"
    case .revoked, .badSignature, .insecureAlgorithm, .wrongPurpose: "replace it on the server"
    case .other: nil
    }
  }

  private static func list(_ names: [String]) -> String {
    guard !names.isEmpty else { return "no name" }
    let more = names.count - 5
    return names.prefix(5).joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
  }
}

extension TLSFile.Problem {
  func message(_ file: TLSFile, _ path: String) -> String {
    let name = quotedName(path, limit: 200)
    return switch self {
    case .missing: "there is no file \(name)"
    case .missingCredential(let credential, _): "the service has no credential \(quotedName(credential))"
    case .unreadable(let reason): "\(name) can't be read: \(reason)"
    case .foreign(let owner): "\(name) belongs to another user (number \(owner)), who can read and change the secret"
    case .exposed(let toEverybody):
      "\(toEverybody ? "everybody" : "a group of users") can read or change the secret in \(name)"
    case .tooLarge: "\(name) is larger than 1 MiB"
    case .unusable(let reason):
      switch file {
      case .authorities: "\(name) holds no certificate of an authority in PEM: \(reason)"
      case .certificate: "\(name) holds no certificate in PEM: \(reason)"
      case .key: "\(name) holds no private key that can be used: \(reason)"
      case .presharedKeys: "\(name) holds no pre-shared key: \(reason)"
      }
    case .keyMismatch: "the key in \(name) does not belong to the certificate"
    case .expired(let date): "the certificate in \(name) expired on \(date)"
    case .notYetValid(let date): "the certificate in \(name) is not valid before \(date)"
    case .malformedLine(let line): "line \(line) of \(name) is not IDENTITY:KEY with the key in hexadecimal digits"
    case .noIdentity(let identity): "\(name) has no key of the identity \(quotedName(identity))"
    case .ambiguousIdentity(let count): "\(name) has \(count) keys, and none was named"
    }
  }

  func hint(_ file: TLSFile, _ path: String) -> String? {
    switch self {
    case .foreign: "chown root \(shown(path, limit: 4096))"
    case .exposed: "chmod go= \(shown(path, limit: 4096))"
    case .missingCredential(let name, nil): "add LoadCredential=\(name):PATH to the unit of the service"
    case .missingCredential(let name, _?): "add LoadCredential=\(name):PATH to the unit, and restart the service"
    case .unusable where file == .presharedKeys: "psktool makes such files"
    case .expired: "renew it"
    case .notYetValid: "is the clock of this machine right?"
    case .ambiguousIdentity: "name one as tls.psk-identity"
    case .missing, .unreadable, .tooLarge, .unusable, .keyMismatch, .malformedLine, .noIdentity: nil
    }
  }
}

/// Text from outside, fit for one line: what is not visible becomes `?`, and past `limit` characters it ends in `…`.
func shown(_ text: String, limit: Int = 100) -> String {
  var result = ""
  for (count, scalar) in text.unicodeScalars.enumerated() {
    guard count < limit else { return result + "…" }
    switch scalar.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: result += "?"
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result
}

/// The same between backquotes.
func quotedName(_ text: String, limit: Int = 60) -> String { "`\(shown(text, limit: limit))`" }
