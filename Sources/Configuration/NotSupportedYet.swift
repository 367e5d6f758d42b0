import AttachmentModel

/// What is understood and checked, but refused because nothing carries it out yet. Each line goes with its feature.
enum NotSupportedYet {
  static let table: [Entry] = [
    Entry("datapath", "kernel TLS", { $0 == "ktls" })
  ]

  struct Entry: Sendable {
    var key: String
    var feature: String
    /// Which of the key's values need the feature; `nil`: to be given at all.
    var values: (@Sendable (String) -> Bool)?

    init(_ key: String, _ feature: String, _ values: (@Sendable (String) -> Bool)? = nil) {
      self.key = key
      self.feature = feature
      self.values = values
    }
  }

  /// Refuses a value, or each of a list, that needs a feature which is not there.
  static func check(_ key: String, _ value: YAMLNode, _ diagnostics: inout Diagnostics) {
    if case .sequence(let items) = value.content {
      for item in items { check(key, item, &diagnostics) }
    }
    guard case .scalar(let text, _) = value.content else { return }
    for entry in table where entry.key == key && entry.values?(text) == true {
      diagnostics.report(at: value.place, "\(entry.feature) is not supported yet", hint: hint(key))
    }
  }

  /// Refuses a key that needs a feature which is not there, whatever its value.
  static func check(_ key: String, at place: Place, _ diagnostics: inout Diagnostics) {
    for entry in table where entry.key == key && entry.values == nil {
      diagnostics.report(at: place, "\(entry.feature) is not supported yet", hint: "leave `\(key)` out")
    }
  }

  private static func hint(_ key: String) -> String {
    "leave `\(key)` out, or write `auto`"
  }
}
