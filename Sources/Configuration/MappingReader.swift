import AttachmentModel

extension YAMLNode {
  /// Reads a mapping by a table of keys: each entry into `target`, or into `diagnostics`.
  ///
  /// `prefix` is the path of this mapping, such as `tls.`; `given` is told of each known key: its path, its place, and that of
  /// its value where the value can be used.
  func read<Target>(
    _ keys: [Key<Target>], into target: inout Target, prefix: String = "", _ diagnostics: inout Diagnostics,
    unknown: (String) -> String?, given: (inout Target, String, Place, Place?) -> Void
  ) {
    for entry in entries(&diagnostics) {
      guard let key = keys.first(where: { $0.name == entry.name }) else {
        diagnostics.report(
          at: entry.place, "unknown key \(entry.name.quoted())" + (prefix.isEmpty ? "" : " in `\(prefix.dropLast())`"),
          hint: unknown(entry.name)
            ?? Spelling.closest(to: entry.name, among: keys.map(\.name)).map { "did you mean `\($0)`?" }
            ?? "the keys here are \(keys.map(\.name).joined(separator: ", "))")
        continue
      }
      let path = prefix + key.name
      switch key.content {
      case .value(_, let read):
        let isUsable = read(entry.value, &target, &diagnostics)
        given(&target, path, entry.place, isUsable ? entry.value.place : nil)
      case .mapping(let keys):
        guard entry.value.isMapping("`\(path)`", &diagnostics) else { break }
        given(&target, path, entry.place, entry.value.place)
        entry.value.read(
          keys, into: &target, prefix: path + ".", &diagnostics, unknown: { _ in nil }, given: given)
      }
    }
  }

  struct NamedEntry {
    var name: String
    var place: Place
    var value: YAMLNode
  }

  /// The entries of a mapping whose keys are texts, each once; reports the others. Empty for anything else.
  func entries(_ diagnostics: inout Diagnostics) -> [NamedEntry] {
    guard case .mapping(let entries) = content else { return [] }
    var result: [NamedEntry] = []
    var seen: [String: Place] = [:]
    for entry in entries {
      guard case .scalar(let name, _) = entry.key.content else {
        diagnostics.report(at: entry.key.place, "a key is a text, not \(entry.key.kind)")
        continue
      }
      if name == "<<" {
        diagnostics.report(
          at: entry.key.place, "merge keys are not read",
          hint: "put what all attachments share under `defaults:` in nbdattachd.yaml")
      } else if let first = seen[name] {
        diagnostics.report(
          at: entry.key.place, "\(name.quoted()) is given twice", hint: "it is given first at \(first.cited)")
      } else {
        seen[name] = entry.key.place
        result.append(NamedEntry(name: name, place: entry.key.place, value: entry.value))
      }
    }
    return result
  }

  /// Reports, and returns false, where this is no mapping.
  func isMapping(_ what: String, _ diagnostics: inout Diagnostics) -> Bool {
    if case .mapping = content { return true }
    diagnostics.report(at: place, "\(what) is a mapping of keys and values, not \(kind)", hint: mappingHint)
    return false
  }

  /// For `key:value`, which YAML takes for one text, and for a URI without its key.
  private var mappingHint: String? {
    guard case .scalar(let text, .plain) = content, let colon = text.firstIndex(of: ":") else { return nil }
    let key = String(text[..<colon])
    if (try? ServerURI(parsing: text)) != nil { return "write \("uri: \(text)".quoted())" }
    guard KeyHints.isKey(key) else { return nil }
    return "a space is missing after the colon: write \("\(key): \(text[text.index(after: colon)...])".quoted())"
  }
}
