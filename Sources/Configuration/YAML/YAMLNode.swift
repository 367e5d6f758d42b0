import AttachmentModel

/// One value of a YAML document, and where it stands.
struct YAMLNode {
  enum Content {
    case scalar(String, Style)
    case sequence([YAMLNode])
    /// As written: keys may be of any kind and stand more than once.
    case mapping([Entry])
  }

  enum Style {
    case plain
    case quoted
    /// `|` or `>`.
    case block
  }

  struct Entry {
    var key: YAMLNode
    var value: YAMLNode
  }

  var content: Content
  var source: SourceFile
  var start: YAMLMark
  var end: YAMLMark

  /// The whole of a scalar, as far as it stands on one line; else its first character.
  var place: Place {
    var length = 1
    if case .scalar = content, end.line == start.line { length = end.column - start.column }
    return Place(source: source, line: start.line, column: start.column, length: length)
  }

  /// The place of a part of a scalar, given as offsets into its UTF-8. The whole scalar where that can't be told,
  /// because escapes or line breaks stand between the file and the text.
  func place(of range: Range<Int>) -> Place {
    guard case .scalar(let text, let style) = content, style != .block, start.line == end.line else { return place }
    let quotes = style == .quoted ? 1 : 0
    guard end.column - start.column == text.unicodeScalars.count + 2 * quotes else { return place }
    let utf8 = Array(text.utf8)
    let lower = min(range.lowerBound, utf8.count)
    let upper = min(max(lower, range.upperBound), utf8.count)
    func characters(_ bytes: ArraySlice<UInt8>) -> Int { String(decoding: bytes, as: UTF8.self).unicodeScalars.count }
    return Place(
      source: source, line: start.line, column: start.column + quotes + characters(utf8[..<lower]),
      length: characters(utf8[lower..<upper]))
  }

  /// A value that was left out, `~` or `null`.
  var isNull: Bool {
    guard case .scalar(let text, .plain) = content else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }

  /// What it is, for messages.
  var kind: String {
    switch content {
    case .scalar where isNull: "nothing"
    case .scalar(let text, _): text.quoted(limit: 40)
    case .sequence: "a list"
    case .mapping: "a mapping"
    }
  }
}

/// A position in a file; line and column from 1, columns in Unicode scalars.
struct YAMLMark {
  var line: Int
  var column: Int
}
