import AttachmentModel
import TLS

extension ValueReader<String> {
  /// An absolute path, or a credential of the service.
  static let credentialFile = ValueReader(form: "absolute path or credential:NAME") { node, diagnostics in
    guard let text = text.read(node, &diagnostics) else { return nil }
    guard let name = TLSCredentials.credentialName(text) else { return path.read(node, &diagnostics) }
    // systemd.exec(5), LoadCredential=: a name that could be that of a file.
    guard !name.isEmpty, !name.contains("/"), name != ".", name != "..", name.utf8.count <= 255 else {
      diagnostics.report(
        at: node.place, "\(name.quoted()) can't be the name of a credential",
        hint: "write the name in the unit's LoadCredential=, such as `credential:client.key`")
      return nil
    }
    return text
  }

  /// GnuTLS' priority string.
  static let priorities = ValueReader(form: "GnuTLS priority string") { node, diagnostics in
    guard let text = text.read(node, &diagnostics) else { return nil }
    return node.parsed(&diagnostics) { () throws(TextError) in
      do throws(TLSError) {
        try TLSPriorities.check(text)
        return text
      } catch {
        var start = 0
        if case .priority(_, let offset) = error { start = offset }
        throw TextError(.whole, start..<text.utf8.count, error.message, hint: error.hint)
      }
    }
  }
}

extension ValueReader<TLSVerification> {
  /// `full`, or `none` in so many words.
  static let verification = ValueReader(form: "full or none") { node, diagnostics in
    guard let text = node.text("`full` or `none`", &diagnostics) else { return nil }
    if let value = TLSVerification(rawValue: text) { return value }
    diagnostics.report(at: node.place, "unknown value \(text.quoted())", hint: "the values are full and none")
    return nil
  }
}
