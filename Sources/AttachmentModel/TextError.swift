/// What is wrong with a text that was to be a URI, a size, a duration or a name.
package struct TextError: Error, Equatable, Sendable {
  /// The piece of the text that is wrong.
  package enum Part: String, Sendable {
    case whole
    case scheme
    case userName
    case host
    case port
    case exportName
    case parameter
    case number
    case unit
  }

  package var part: Part
  /// Offsets into the text's UTF-8; never beyond its end, and empty only where something is missing.
  package var range: Range<Int>
  /// One line, no full stop at the end; what it quotes of the text is escaped.
  package var message: String
  /// What to write instead, one line.
  package var hint: String?

  package init(_ part: Part, _ range: Range<Int>, _ message: String, hint: String? = nil) {
    self.part = part
    self.range = range
    self.message = message
    self.hint = hint
  }
}

extension TextError: CustomStringConvertible {
  package var description: String { hint.map { "\(message) (\($0))" } ?? message }
}
