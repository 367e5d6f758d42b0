import AttachmentModel

extension AttachmentDraft {
  /// Reports what contradicts itself in `tls:` and in the URIs, and key files that others can read.
  ///
  /// A `tls:` that comes from `defaults:` is for the attachments that use TLS, and dropped from the others.
  mutating func checkTLS(_ keyFiles: KeyFileInspector, _ diagnostics: inout Diagnostics) {
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
    checkServerNames(&diagnostics)
    checkParameters(&diagnostics)
    for (path, file) in [("tls.key-file", spec.tls?.keyFile), ("tls.psk-file", spec.tls?.pskFile)] {
      if let file, let place = places[path] { checkSecret(file, keyFiles(file), at: place, &diagnostics) }
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
  }

  /// A certificate is compared with a name; where the URI has no host, somebody has to say which.
  private func checkServerNames(_ diagnostics: inout Diagnostics) {
    let usesKeys = spec.tls?.pskFile != nil
    for (server, place) in zip(spec.servers, serverPlaces) where server.usesTLS {
      if case .tcp = server.address { continue }
      let parameters = server.tlsParameters
      let isNamed = spec.tls?.serverName != nil || parameters["tls-hostname"] != nil
      let isUnchecked = parameters["tls-verify-peer"] == "0" || ["anon", "psk"].contains(parameters["tls-type"])
      guard !isNamed, !isUnchecked, !usesKeys, parameters["tls-psk-file"] == nil else { continue }
      diagnostics.report(
        at: place, "no name to compare the server's certificate with", hint: "give `tls.server-name`")
    }
  }

  /// The same thing is not said in the URI and under `tls:`.
  private func checkParameters(_ diagnostics: inout Diagnostics) {
    let pairs = [
      ("tls-hostname", "server-name"), ("tls-psk-file", "psk-file"), ("tls-certificates", "ca-file"),
      ("tls-certificates", "certificate-file"),
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
      diagnostics.report(.warning, at: place, "there is no file \(file.quoted())")
    case .unusable(let reason):
      diagnostics.report(at: place, "\(file.quoted()) can't be used: \(reason)")
    case .mode(let mode) where mode & 0o007 != 0:
      diagnostics.report(
        at: place, "everybody can read or change the secret in \(file.quoted())",
        hint: "chmod o= \(file.quoted(limit: 4096).dropFirst().dropLast())")
    case .mode:
      break
    }
  }
}
