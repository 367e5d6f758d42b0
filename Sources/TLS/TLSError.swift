/// Why TLS did not come about, or came to its end, with the facts; `message` is its one line for operators.
package enum TLSError: Error, Equatable, Sendable {
  /// The server's certificate is not to be relied on; at least one reason. `ownAuthorities`: it was checked with a
  /// ca-file, not with the authorities that the system trusts.
  case certificate([CertificateProblem], ownAuthorities: Bool)
  /// The server ended it over the client's certificate, or because there is none. `alert`: in TLS' words; `nil` where
  /// it closed without any.
  case clientCertificateRefused(wasPresented: Bool, alert: String?)
  /// The server does not take the identity, or its key is another. `alert` as above.
  case presharedKeyRefused(identity: String, alert: String?)
  /// No version, cipher or kind of credentials that both have.
  case nothingInCommon(usesPresharedKey: Bool)
  /// The server does not know the name that it was asked for.
  case unknownServerName(String)
  /// The peer ended it with another alert, by TLS' number and name.
  case alert(UInt8, String)
  /// What came is not TLS, or was damaged.
  case notTLS
  /// The peer goes on and on with records that are not data.
  case noData
  /// The peer closed the connection in the middle of the handshake.
  case closed
  /// Of renegotiation, which no NBD server needs, nothing is done.
  case renegotiation
  /// A system call on the connection failed, with its errno.
  case system(String, Int32)
  /// A file with credentials can't be used.
  case file(TLSFile, path: String, TLSFile.Problem)
  /// The priority string is wrong from that byte on.
  case priority(String, offset: Int)
  /// The kernel can't take the connection over.
  case kernel(KernelTLS.Obstacle)
  /// Anything else that GnuTLS says, by its code and text.
  case library(Int32, String)
  /// The session was used out of order; a defect of its caller.
  case outOfStep

  /// What to make of it.
  package enum Nature: Equatable, Sendable {
    /// Another try gives the same until something is changed on either side.
    case final
    /// It may well be different next time.
    case passing
  }

  /// Whether another try makes sense.
  package var nature: Nature {
    switch self {
    case .closed, .system: .passing
    // The clock may not have been set yet.
    case .certificate(let problems, _): problems.allSatisfy(\.isNotYetValid) ? .passing : .final
    case .file(_, _, .notYetValid): .passing
    case .kernel(.dataPending), .kernel(.refused): .passing
    case .clientCertificateRefused, .presharedKeyRefused, .nothingInCommon, .unknownServerName, .alert, .notTLS,
      .noData, .renegotiation, .file, .priority, .kernel, .library, .outOfStep:
      .final
    }
  }
}

/// What is wrong with the certificate of a server.
package enum CertificateProblem: Equatable, Sendable {
  /// The names that it is for, made fit for a message.
  case wrongName(expected: String, names: [String])
  /// When, in UTC; `subject`: whose certificate of the chain it is, `nil` for the server's own.
  case expired(String, subject: String?)
  case notYetValid(String, subject: String?)
  /// Signed by nobody that we know.
  case unknownAuthority(issuer: String)
  /// Signed by itself.
  case selfSigned
  case revoked
  case badSignature
  case insecureAlgorithm
  /// Not made for servers (its extended key usage).
  case wrongPurpose
  /// In GnuTLS' words.
  case other(String)

  var isNotYetValid: Bool { if case .notYetValid = self { true } else { false } }
}

/// A file that TLS needs.
package enum TLSFile: String, CaseIterable, Sendable {
  case authorities = "ca-file"
  case certificate = "certificate-file"
  case key = "key-file"
  case presharedKeys = "psk-file"

  /// What is wrong with it.
  package enum Problem: Equatable, Sendable {
    case missing
    /// There is no such credential; `nil`: the service was started without any.
    case missingCredential(String, directory: String?)
    case unreadable(String)
    /// A secret that another user, by the number, can read and change.
    case foreign(owner: UInt32)
    /// A secret that others can read or change, by its permissions.
    case exposed(toEverybody: Bool)
    case tooLarge
    /// Nothing of its kind is in it, in PEM, or for `presharedKeys` as `IDENTITY:KEY`.
    case unusable(String)
    /// It belongs to another certificate.
    case keyMismatch
    /// When, in UTC.
    case expired(String)
    case notYetValid(String)
    /// Line, from 1.
    case malformedLine(Int)
    case noIdentity(String)
    /// None was asked for, and there are so many.
    case ambiguousIdentity(Int)
  }
}
