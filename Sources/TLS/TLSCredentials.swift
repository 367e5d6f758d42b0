package import AttachmentModel
import CGnuTLS
import Glibc

/// Who we are and whom we trust, loaded and checked.
///
/// Immutable once made: GnuTLS allows one object in many sessions and on many threads at once.
package final class TLSCredentials: @unchecked Sendable {
  enum Kind {
    case certificates(gnutls_certificate_credentials_t, ownAuthorities: Bool, hasCertificate: Bool)
    case presharedKey(gnutls_psk_client_credentials_t, identity: String)
  }

  let kind: Kind
  private let stamps: [FileStamp]
  private let expiration: time_t?

  private init(_ kind: Kind, _ stamps: [FileStamp], expiration: time_t? = nil) {
    self.kind = kind
    self.stamps = stamps
    self.expiration = expiration
  }

  deinit {
    switch kind {
    case .certificates(let credentials, _, _): gnutls_certificate_free_credentials(credentials)
    case .presharedKey(let credentials, _): gnutls_psk_free_client_credentials(credentials)
    }
  }

  /// Reads the files, which blocks. Throws `.file` with what is wrong with one of them; a client certificate that has
  /// expired, or is not valid yet, is wrong.
  package static func load(_ source: TLSRequirements.Credentials) throws(TLSError) -> TLSCredentials {
    switch source {
    case .presharedKey(let file, let identity):
      let path = try TLSCredentials.path(.presharedKeys, file)
      let stamp = FileStamp(path)
      let content = try Secret.reading(.presharedKeys, path, isGuarded: isGuarded(file))
      return try presharedKey(try PresharedKey.find(identity, in: content, path: path), path: path, stamp)
    case .certificates(let authorities, let certificate, let key):
      return try load(authorities: authorities, certificate: certificate, key: key)
    case .folder(let folder):
      let certificate = "\(folder)/client-cert.pem"
      // Looked at before it is asked for: one that is put there later is a change.
      let stamp = FileStamp(certificate)
      let hasCertificate = access(certificate, F_OK) == 0
      return try load(
        authorities: "\(folder)/ca-cert.pem", certificate: hasCertificate ? certificate : nil,
        key: hasCertificate ? "\(folder)/client-key.pem" : nil, seen: [stamp])
    }
  }

  /// `seen`: what else loading again would depend on.
  private static func load(
    authorities: String?, certificate: String?, key: String?, seen: [FileStamp] = []
  ) throws(TLSError) -> TLSCredentials {
    let credentials = try unfilledCertificates()
    credentials.stamps = seen
    if let authorities { try add(authorities: authorities, to: credentials) } else { addSystemTrust(to: credentials) }
    if let certificate, let key { try add(certificate: certificate, key: key, to: credentials) }
    return TLSCredentials(
      .certificates(
        credentials.object, ownAuthorities: authorities != nil, hasCertificate: certificate != nil && key != nil),
      from: credentials)
  }

  /// Everything that is wrong with the files, which it reads.
  package static func problems(of source: TLSRequirements.Credentials) -> [TLSError] {
    var problems: [TLSError] = []
    func attempt(_ body: () throws(TLSError) -> Void) {
      do throws(TLSError) { try body() } catch { problems.append(error) }
    }
    switch source {
    case .certificates(let authorities, let certificate, let key):
      if let authorities {
        attempt { () throws(TLSError) in try add(authorities: authorities, to: try unfilledCertificates()) }
      }
      if let certificate, let key {
        attempt { () throws(TLSError) in
          try add(certificate: certificate, key: key, to: try unfilledCertificates())
        }
      }
    case .folder, .presharedKey:
      attempt { () throws(TLSError) in _ = try load(source) }
    }
    return problems
  }

  /// Loading again would give the same: no file has changed, and the client certificate has not expired since.
  package var isCurrent: Bool { stamps.allSatisfy(\.isCurrent) && expiration.map { time(nil) <= $0 } ?? true }

  /// The file that is meant by a path or by `credential:NAME`.
  package static func path(_ file: TLSFile, _ source: String) throws(TLSError) -> String {
    guard let name = credentialName(source) else { return source }
    let directory = getenv("CREDENTIALS_DIRECTORY").map { String(cString: $0) }
    guard let directory, access("\(directory)/\(name)", F_OK) == 0 else {
      throw .file(file, path: source, .missingCredential(name, directory: directory))
    }
    return "\(directory)/\(name)"
  }

  /// Of its own credentials systemd takes care.
  private static func isGuarded(_ source: String) -> Bool { credentialName(source) == nil }

  /// NAME of `credential:NAME`; `nil` for a path.
  package static func credentialName(_ source: String) -> String? {
    let prefix = "credential:"
    return source.hasPrefix(prefix) ? String(source.dropFirst(prefix.count)) : nil
  }

  // MARK: Certificates

  /// Frees the object unless it is taken.
  private final class Unfilled {
    let object: gnutls_certificate_credentials_t
    var stamps: [FileStamp] = []
    var expiration: time_t?
    var isTaken = false

    init(_ object: gnutls_certificate_credentials_t) { self.object = object }

    deinit { if !isTaken { gnutls_certificate_free_credentials(object) } }
  }

  private convenience init(_ kind: Kind, from unfilled: Unfilled) {
    unfilled.isTaken = true
    self.init(kind, unfilled.stamps, expiration: unfilled.expiration)
  }

  private static func unfilledCertificates() throws(TLSError) -> Unfilled {
    var object: gnutls_certificate_credentials_t?
    try check(gnutls_certificate_allocate_credentials(&object))
    guard let object else { throw .outOfStep }
    return Unfilled(object)
  }

  private static func addSystemTrust(to credentials: Unfilled) {
    credentials.stamps.append(FileStamp("/etc/ssl/certs/ca-certificates.crt"))
    // Without any authority nothing is trusted, and the handshake says so.
    _ = gnutls_certificate_set_x509_system_trust(credentials.object)
  }

  private static func add(authorities: String, to credentials: Unfilled) throws(TLSError) {
    let path = try path(.authorities, authorities)
    credentials.stamps.append(FileStamp(path))
    let content = try Secret.reading(.authorities, path)
    let count = content.withDatum {
      gnutls_certificate_set_x509_trust_mem(credentials.object, &$0, GNUTLS_X509_FMT_PEM)
    }
    guard count > 0 else {
      throw .file(.authorities, path: path, .unusable(count == 0 ? "there is none" : LibraryError(count).text))
    }
  }

  private static func add(certificate: String, key: String, to credentials: Unfilled) throws(TLSError) {
    let certificatePath = try path(.certificate, certificate)
    credentials.stamps.append(FileStamp(certificatePath))
    let chain = try Secret.reading(.certificate, certificatePath)
    let owner: Certificate
    switch Certificate.list(chain) {
    case .success(let list):
      guard let first = list.first else { throw .file(.certificate, path: certificatePath, .unusable("there is none")) }
      owner = first
    case .failure(let error): throw .file(.certificate, path: certificatePath, .unusable(error.text))
    }
    let keyPath = try path(.key, key)
    credentials.stamps.append(FileStamp(keyPath))
    let secret = try Secret.reading(.key, keyPath, isGuarded: isGuarded(key))
    let code = chain.withDatum { chain in
      secret.withDatum { secret in
        gnutls_certificate_set_x509_key_mem2(credentials.object, &chain, &secret, GNUTLS_X509_FMT_PEM, nil, 0)
      }
    }
    guard code >= 0 else {
      throw .file(
        .key, path: keyPath,
        code == GNUTLS_E_CERTIFICATE_KEY_MISMATCH ? .keyMismatch : .unusable(LibraryError(code).text))
    }
    credentials.expiration = owner.expiration
    let now = time(nil)
    if owner.expiration < now {
      throw .file(.certificate, path: certificatePath, .expired(Certificate.date(owner.expiration)))
    }
    if owner.activation > now {
      throw .file(.certificate, path: certificatePath, .notYetValid(Certificate.date(owner.activation)))
    }
  }

  // MARK: Pre-shared keys

  private static func presharedKey(
    _ found: PresharedKey, path: String, _ stamp: FileStamp
  ) throws(TLSError) -> TLSCredentials {
    var object: gnutls_psk_client_credentials_t?
    try check(gnutls_psk_allocate_client_credentials(&object))
    guard let object else { throw .outOfStep }
    // From here on the object is freed with the result.
    let credentials = TLSCredentials(.presharedKey(object, identity: found.identity), [stamp])
    let code = found.key.withDatum {
      gnutls_psk_set_client_credentials(object, found.identity, &$0, GNUTLS_PSK_KEY_HEX)
    }
    guard code >= 0 else { throw .file(.presharedKeys, path: path, .unusable(LibraryError(code).text)) }
    return credentials
  }
}

/// A file as it was, taken before it is read: to see whether it is another since.
private struct FileStamp {
  private let path: String
  private let seen: [Int]
  /// Changed so shortly before that a change after it may bear the same time.
  private let isFresh: Bool

  init(_ path: String) {
    self.path = path
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    let (seen, changed) = FileStamp.look(path)
    self.seen = seen
    isFresh = changed.map { FileStamp.mayRepeat($0, at: now) } ?? false
  }

  /// File systems take the time of the last clock tick, 10 ms at most; some leave out what is below 2 s.
  private static func mayRepeat(_ change: timespec, at now: timespec) -> Bool {
    let seconds = Double(now.tv_sec - change.tv_sec) + Double(now.tv_nsec - change.tv_nsec) / 1e9
    return seconds < (change.tv_nsec == 0 ? 2.5 : 0.05)
  }

  var isCurrent: Bool { !isFresh && FileStamp.look(path).stamp == seen }

  /// Empty where there is none; and when it was last changed in any way.
  private static func look(_ path: String) -> (stamp: [Int], changed: timespec?) {
    var status = stat()
    guard stat(path, &status) == 0 else { return ([], nil) }
    let stamp = [
      Int(status.st_dev), Int(truncatingIfNeeded: status.st_ino), Int(status.st_size), status.st_mtim.tv_sec,
      status.st_mtim.tv_nsec, status.st_ctim.tv_sec, status.st_ctim.tv_nsec,
    ]
    return (stamp, status.st_ctim)
  }
}
