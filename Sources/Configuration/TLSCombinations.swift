import AttachmentModel
import TLS

extension AttachmentDraft {
  /// Reports what contradicts itself in `tls:` and in the URIs, and key files that others can read.
  ///
  /// A `tls:` that comes from `defaults:` is for the attachments that use TLS, and dropped from the others.
  mutating func checkTLS(_ files: SecretFiles, _ diagnostics: inout Diagnostics) {
    let secure = spec.servers.contains(where: \.usesTLS)
    if secure, let plain = spec.servers.firstIndex(where: { !$0.usesTLS }), serverPlaces.indices.contains(plain) {
      diagnostics.report(
        at: serverPlaces[plain], "servers with and without TLS in one list",
        hint: "an attachment that asks for TLS never goes without it: write `nbds` for all")
    }
    guard secure else {
      if let place = ownKeys["tls"], !spec.servers.isEmpty {
        diagnostics.report(
          at: place, "`tls` means nothing for a URI without TLS", hint: "write `nbds://` instead of `nbd://`")
      }
      spec.tls = nil
      return
    }
    checkCredentials(&diagnostics)
    checkParameters(&diagnostics)
    checkServers(files, &diagnostics)
    for (kind, path) in [(TLSFile.key, spec.tls?.keyFile), (.presharedKeys, spec.tls?.pskFile)] {
      // Of its own credentials systemd takes care.
      guard let path, let place = places["tls.\(kind.rawValue)"], TLSCredentials.credentialName(path) == nil else {
        continue
      }
      checkSecret(kind, path, files.status(of: path), at: place, &diagnostics)
    }
  }

  private func checkCredentials(_ diagnostics: inout Diagnostics) {
    func both(_ first: String, _ second: String, _ message: String) {
      guard let place = places["tls.\(first)"], places["tls.\(second)"] != nil else { return }
      diagnostics.report(at: place, message)
    }
    func needs(_ first: String, _ second: String) {
      guard let place = places["tls.\(first)"], places["tls.\(second)"] == nil else { return }
      diagnostics.report(at: place, "`\(first)` needs `\(second)` beside it")
    }
    both("psk-file", "certificate-file", "`psk-file` and `certificate-file` exclude each other")
    both("psk-file", "ca-file", "`psk-file` and `ca-file` exclude each other")
    needs("certificate-file", "key-file")
    needs("key-file", "certificate-file")
    needs("psk-identity", "psk-file")
    if let verify = places["tls.verify"], spec.tls?.verify == TLSVerification.none, places["tls.psk-file"] != nil {
      diagnostics.report(at: verify, "`verify: none` means nothing with `psk-file`: the key is the server's proof")
    }
  }

  /// What each server must prove is clear, and the files to do our part with are right.
  private func checkServers(_ files: SecretFiles, _ diagnostics: inout Diagnostics) {
    for (server, place) in zip(spec.servers, serverPlaces) where server.usesTLS {
      let requirements: TLSRequirements
      do {
        requirements = try TLSRequirements(server, spec.tls)
      } catch {
        diagnostics.report(at: place, error.message, hint: error.hint)
        continue
      }
      if requirements.isUnverified {
        diagnostics.report(
          .warning, at: spec.tls?.verify == TLSVerification.none ? places["tls.verify"] ?? place : place,
          "the server's certificate is not verified: whoever answers in its place can read and change everything",
          hint: "remove it, and give `tls.ca-file` and `tls.server-name` where they are needed")
      }
      checkSecrets(in: server, files, at: place, &diagnostics)
      for problem in files.problems(of: requirements.credentials) { report(problem, files, at: place, &diagnostics) }
    }
  }

  /// Of the files that the URI itself names.
  private func checkSecrets(
    in server: ServerURI, _ files: SecretFiles, at place: Place, _ diagnostics: inout Diagnostics
  ) {
    let keyFile = server.tlsParameters["tls-certificates"].map { "\($0)/client-key.pem" }
    for (kind, path) in [(TLSFile.key, keyFile), (.presharedKeys, server.tlsParameters["tls-psk-file"])] {
      guard let path else { continue }
      let status = files.status(of: path)
      if status != .missing { checkSecret(kind, path, status, at: place, &diagnostics) }
    }
  }

  /// At the key that names the file, or at the URI.
  private func report(
    _ problem: TLSError, _ files: SecretFiles, at server: Place, _ diagnostics: inout Diagnostics
  ) {
    guard case .file(let file, let path, let cause) = problem else {
      return diagnostics.report(at: server, problem.message, hint: problem.hint)
    }
    let place = places["tls.\(file.rawValue)"]
    let isSecret = file == .key || file == .presharedKeys
    let severity: Diagnostic.Severity
    var hint = problem.hint
    switch cause {
    case .missing:
      // Of a secret under `tls:` it is said where its permissions are looked at.
      if isSecret, place != nil { return }
      severity = .warning
    case .unreadable:
      severity = .warning
      guard isSecret else { break }
      // The same, but for one whose permissions can be looked at, and not its content.
      guard case .file = files.status(of: path) else { return }
      hint = AttachmentDraft.lookHint
    // What time or another service mends keeps no attachment from being declared. The credentials of the service are not
    // there for whoever checks its configuration by hand.
    case .missingCredential, .expired, .notYetValid: severity = .warning
    case .foreign, .exposed, .tooLarge, .unusable, .keyMismatch, .malformedLine, .noIdentity, .ambiguousIdentity:
      severity = .error
    }
    diagnostics.report(severity, at: place ?? server, inNamedFile: true, problem.message, hint: hint)
  }

  /// Of what the daemon can look at, and who checks its configuration can't.
  private static let lookHint = "check as root, to have it looked at"

  /// The same thing is not said in the URI and under `tls:`.
  private func checkParameters(_ diagnostics: inout Diagnostics) {
    let pairs = [
      ("tls-hostname", "server-name"), ("tls-psk-file", "psk-file"), ("tls-certificates", "ca-file"),
      ("tls-certificates", "certificate-file"), ("tls-verify-peer", "verify"),
    ]
    for (server, place) in zip(spec.servers, serverPlaces) {
      for (parameter, key) in pairs where server.tlsParameters[parameter] != nil && ownKeys["tls.\(key)"] != nil {
        diagnostics.report(
          at: place, "`\(parameter)` in the URI and `tls.\(key)` say the same thing", hint: "leave one of them out")
      }
      if server.userName != nil, ownKeys["tls.psk-identity"] != nil {
        diagnostics.report(
          at: place, "the user name in the URI and `tls.psk-identity` say the same thing", hint: "leave one of them out"
        )
      }
    }
  }

  /// What is wrong with a file keeps no attachment from being declared: a device that it had before is kept.
  private func checkSecret(
    _ file: TLSFile, _ path: String, _ status: KeyFileStatus, at place: Place, _ diagnostics: inout Diagnostics
  ) {
    switch status {
    case .missing:
      diagnostics.report(.warning, at: place, "there is no file \(path.quoted(limit: 200))")
    case .unusable(let reason):
      diagnostics.report(at: place, inNamedFile: true, "\(path.quoted(limit: 200)) can't be used: \(reason)")
    case .hidden(let reason):
      diagnostics.report(
        .warning, at: place, "\(path.quoted(limit: 200)) can't be read: \(reason)", hint: AttachmentDraft.lookHint)
    case .file(let owner, let mode):
      guard let problem = TLSFile.Problem.ofSecret(owner: owner, mode: mode) else { break }
      let error = TLSError.file(file, path: path, problem)
      diagnostics.report(at: place, inNamedFile: true, error.message, hint: error.hint)
    }
  }
}
