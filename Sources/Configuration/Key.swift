/// One key of a mapping: its name, what it takes, what it is without being given, and where its value goes.
///
/// The tables of keys are the one place that says which keys there are; the parser works from them, and a test
/// compares the example, the manual page and the schema with them.
struct Key<Target>: Sendable {
  enum Content: Sendable {
    /// The closure reports what is wrong, and says whether there is a value now.
    case value(form: String, @Sendable (YAMLNode, inout Target, inout Diagnostics) -> Bool)
    case mapping([Key])
  }

  var name: String
  /// As it would be written; `nil` where there is no value unless one is given.
  var standard: String?
  /// May stand under `defaults:`.
  var isDefaultable = true
  var content: Content

  static func value<Value>(
    _ name: String, _ reader: ValueReader<Value>, standard: String? = nil, isDefaultable: Bool = true,
    store: @escaping @Sendable (inout Target, Value) -> Void
  ) -> Key {
    Key(
      name: name, standard: standard, isDefaultable: isDefaultable,
      content: .value(form: reader.form) { node, target, diagnostics in
        guard let value = reader.read(node, &diagnostics) else { return false }
        store(&target, value)
        return true
      })
  }

  static func mapping(_ name: String, isDefaultable: Bool = true, _ keys: [Key]) -> Key {
    Key(name: name, isDefaultable: isDefaultable, content: .mapping(keys))
  }
}

/// A key as the documents list it.
struct KeyDescription: Sendable {
  /// `tls.ca-file`.
  var path: String
  var form: String
  var standard: String?
}

extension Key {
  /// This key, or those below it, with their paths.
  func descriptions(below prefix: String = "") -> [KeyDescription] {
    switch content {
    case .value(let form, _): [KeyDescription(path: prefix + name, form: form, standard: standard)]
    case .mapping(let keys): keys.flatMap { $0.descriptions(below: "\(prefix)\(name).") }
    }
  }
}
