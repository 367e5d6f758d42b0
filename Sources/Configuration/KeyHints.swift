import AttachmentModel

/// What somebody meant who wrote a key that is known elsewhere, or under another name.
enum KeyHints {
  /// Some key, wherever it belongs.
  static func isKey(_ name: String) -> Bool {
    name == "attachments" || daemonKeys.contains { $0.name == name }
      || attachmentKeys.contains { $0.name == name || $0.has(name) }
  }

  static func daemonFile(_ name: String) -> String? {
    if name == "attachments" { return "attachments stand in files of their own, in attachments.d" }
    if attachmentKeys.contains(where: { $0.name == name && $0.isDefaultable }) {
      return "what holds for all attachments stands below `defaults:`"
    }
    return nil
  }

  static func attachmentsFile(_ name: String, _ value: YAMLNode) -> String {
    if name == "defaults" || daemonKeys.contains(where: { $0.name == name }) {
      return "`\(name)` stands in \(ConfigurationFile.daemonFileName)"
    }
    if attachmentKeys.contains(where: { $0.name == name }) {
      return "an attachment's keys stand below its name, and that below `attachments:`"
    }
    if let word = Spelling.closest(to: name, among: ["attachments"]) { return "did you mean `\(word)`?" }
    if case .mapping = value.content {
      return "begin the file with `attachments:`, and indent the names of the attachments below it"
    }
    return "the only key here is `attachments`, with the names of the attachments below it"
  }

  static func defaults(_ name: String) -> String? {
    attachmentKeys.contains { $0.name == name } ? "it is each attachment's own" : attachment(name)
  }

  static func attachment(_ name: String) -> String? {
    for case .mapping(let keys) in attachmentKeys.map(\.content) where keys.contains(where: { $0.name == name }) {
      guard let owner = attachmentKeys.first(where: { $0.has(name) }) else { return nil }
      return "`\(name)` stands below `\(owner.name):`"
    }
    switch name {
    case "host", "server", "port", "export", "export-name", "name", "socket", "path", "address":
      return "server and export are part of the `uri`, such as `nbd://HOST:PORT/EXPORT`"
    case "ro": return "did you mean `read-only`?"
    case "timeout": return "the timeouts are `connect-timeout`, `request-timeout` and `reconnect-timeout`"
    case "dev": return "did you mean `device`?"
    case "multi-conn": return "did you mean `connections`?"
    case "size": return "`size` stands below `expect:`"
    default: return nil
    }
  }
}

extension Key {
  fileprivate func has(_ name: String) -> Bool {
    if case .mapping(let keys) = content { return keys.contains { $0.name == name } }
    return false
  }
}
