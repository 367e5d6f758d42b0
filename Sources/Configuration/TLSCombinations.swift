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
    for (path, file) in [("tls.key-file", spec.tls?.keyFile), ("tls.psk-file", spec.tls?.pskFile)] {
      // Of its own credentials systemd takes care.
      guard let file, let place = places[path], TLSCredentials.credentialName(file) == nil else { continue }
      checkSecret(file, files.status(of: file), at: place, &diagnostics)
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
      for problem in files.problems(of: requirements.credentials) { report(problem, at: place, &diagnostics) }
    }
  }

  /// Of the files that the URI itself names.
  private func checkSecrets(
    in server: ServerURI, _ files: SecretFiles, at place: Place, _ diagnostics: inout Diagnostics
  ) {
    let keyFile = server.tlsParameters["tls-certificates"].map { "\($0)/client-key.pem" }
    for file in [keyFile, server.tlsParameters["tls-psk-file"]] {
      guard let file else { continue }
      let status = files.status(of: file)
      if status != .missing { checkSecret(file, status, at: place, &diagnostics) }
    }
  }

  /// At the key that names the file, or at the URI.
  private func report(_ problem: TLSError, at server: Place, _ diagnostics: inout Diagnostics) {
    guard case .file(let file, _, let cause) = problem else {
      return diagnostics.report(at: server, problem.message, hint: problem.hint)
    }
    let place = places["tls.\(file.rawValue)"]
    let isSecret = file == .key || file == .presharedKeys
    let severity: Diagnostic.Severity
    switch cause {
    case .missing, .unreadable:
      // Of a secret under `tls:` it is said where its permissions are looked at.
      if isSecret, place != nil { return }
      severity = .warning
    // What time or another service mends keeps no attachment from being declared. The credentials of the service are not
    // there for whoever checks its configuration by hand.
    case .missingCredential, .expired, .notYetValid: severity = .warning
    case .tooLarge, .unusable, .keyMismatch, .malformedLine, .noIdentity, .ambiguousIdentity: severity = .error
    }
    diagnostics.report(severity, at: place ?? server, inNamedFile: true, problem.message, hint: problem.hint)
  }

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

  private func checkSecret(_ file: String, _ status: KeyFileStatus, at place: Place, _ diagnostics: inout Diagnostics) {
    switch status {
    case .missing:
      diagnostics.report(.warning, at: place, "there is no file \(file.quoted(limit: 200))")
    case .unusable(let reason):
      diagnostics.report(at: place, "\(file.quoted(limit: 200)) can't be used: \(reason)")
    case .foreign(let owner):
      diagnostics.report(
        at: place,
        "\(file.quoted(limit: 200)) belongs to another user (number \(owner)), who can read and change the secret",
        hint: "chown root \(file.quoted(limit: 4096).dropFirst().dropLast())")
    case .mode(let mode) where mode & 0o077 != 0:
      diagnostics.report(
        at: place,
        "\(mode & 0o007 != 0 ? "everybody" : "a group of users") can read or change the secret in \(file.quoted(limit: 200))",
        hint: "chmod go= \(file.quoted(limit: 4096).dropFirst().dropLast())")
    case .mode:
      break
    }
  }
}
