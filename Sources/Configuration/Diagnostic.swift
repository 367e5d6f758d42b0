import AttachmentModel

/// One thing that is wrong, or looks wrong, in the configuration, and where.
package struct Diagnostic: Equatable, Sendable, Error {
  package enum Severity: String, Sendable {
    case error
    case warning
  }

  /// A piece of the line in question, made fit for a terminal.
  package struct Excerpt: Equatable, Sendable {
    /// At most 160 characters: a tab is shown as an arrow, what a terminal might act on as U+FFFD.
    package var text: String
    /// Where the caret goes: characters before it, and characters that it covers (at least 1).
    package var caret: Range<Int>
  }

  package var severity: Severity
  package var file: String
  /// From 1; 0 where the file as a whole is meant.
  package var line: Int
  /// In characters (Unicode scalars), from 1; 0 where the file as a whole is meant.
  package var column: Int
  /// In characters; 0 where something is missing at that place.
  package var length: Int
  /// One line, no full stop at the end; what it quotes of the file is escaped.
  package var message: String
  /// What to do about it, one line.
  package var hint: String?
  package var excerpt: Excerpt?

  package init(
    _ severity: Severity, file: String, line: Int = 0, column: Int = 0, length: Int = 0, message: String,
    hint: String? = nil, excerpt: Excerpt? = nil
  ) {
    self.severity = severity
    self.file = file
    self.line = line
    self.column = column
    self.length = length
    self.message = message
    self.hint = hint
    self.excerpt = excerpt
  }
}

extension Diagnostic: CustomStringConvertible {
  /// All of it in one line, for the journal: `FILE:LINE:COLUMN: error: MESSAGE (HINT)`.
  package var description: String {
    "\(location): \(severity.rawValue): \(message)" + (hint.map { " (\($0))" } ?? "")
  }

  /// For a terminal, without a newline at the end: place and message, the line, a caret below it, the hint.
  ///
  /// `color` adds the escape sequences that most terminals know.
  package func rendered(color: Bool) -> String {
    let paint = Paint(isOn: color)
    var lines = [
      paint.bold("\(location):") + " " + paint.severity(severity) + " " + paint.bold(message)
    ]
    if let excerpt {
      let number = String(line)
      let gutter = String(repeating: " ", count: number.count)
      let caret = "^" + String(repeating: "~", count: max(0, excerpt.caret.count - 1))
      lines.append("  \(number) | \(excerpt.text)")
      lines.append("  \(gutter) | \(String(repeating: " ", count: excerpt.caret.lowerBound))\(paint.green(caret))")
    }
    if let hint { lines.append("  \(paint.bold("hint:")) \(hint)") }
    return lines.joined(separator: "\n")
  }

  private var location: String {
    let name = file.showable
    return line > 0 ? "\(name):\(line):\(column)" : name
  }
}

extension String {
  /// The text with U+FFFD for every character that a terminal might act on.
  var showable: String {
    var result = ""
    for scalar in unicodeScalars {
      result.unicodeScalars.append(scalar.isSafeToShow ? scalar : "\u{FFFD}")
    }
    return result
  }
}

/// SGR escape sequences, or nothing.
private struct Paint {
  var isOn: Bool

  func bold(_ text: String) -> String { wrap(text, "1") }
  func green(_ text: String) -> String { wrap(text, "1;32") }

  func severity(_ severity: Diagnostic.Severity) -> String {
    switch severity {
    case .error: wrap("error:", "1;31")
    case .warning: wrap("warning:", "1;35")
    }
  }

  private func wrap(_ text: String, _ code: String) -> String { isOn ? "\u{1B}[\(code)m\(text)\u{1B}[0m" : text }
}
