import AttachmentModel

/// A syntax error of libyaml in the words, and at the place, that help whoever made the slip.
struct YAMLExplanation {
  private(set) var place: Place
  private(set) var message: String
  private(set) var hint: String?

  init(_ error: YAMLEvents.SyntaxError, _ source: SourceFile) {
    let here = Place(source: source, line: error.mark.line, column: error.mark.column, length: 1)
    let opening = error.contextMark.map { Place(source: source, line: $0.line, column: $0.column, length: 1) } ?? here
    self.init(place: here, message: "not YAML: \(error.problem)")
    let line = SourceLine(source, here.line)
    let found = line.character(here.column)?.quoted() ?? "the end of the line"

    switch error.problem {
    case "found character that cannot start any token" where line.character(here.column) == "\t",
      "found a tab character where an indentation space is expected",
      "found a tab character that violates indentation":
      message = "the line is indented with a tab"
      hint = "YAML is indented with spaces"
    case "found character that cannot start any token", "did not find expected alphabetic or numeric character":
      let first = SourceLine(source, opening.line).character(opening.column)?.quoted() ?? found
      place = opening
      message = "a value can't begin with \(first)"
      hint = "put the value in quotes"
    case "mapping values are not allowed in this context":
      explainMisplacedColon(line, here)
    case "could not find expected ':'":
      explainMissingColon(SourceLine(source, opening.line), orElse: opening)
    case "did not find expected key", "did not find expected '-' indicator":
      explainUnexpected(line, here, opening, found, isList: error.problem.contains("-"))
    case "did not find expected ',' or '}'", "did not find expected ',' or ']'":
      explainUnclosed(here, opening, brackets: error.problem.hasSuffix("}'") ? ("{", "}") : ("[", "]"))
    case "found unexpected end of stream", "found unexpected document indicator":
      place = opening
      message = "the quote is not closed"
    case "found undefined tag handle", "did not find expected '!'", "did not find expected tag URI":
      message = "tags such as `!name` are not read"
      hint = "a text that begins with ! stands in quotes"
    case "found unknown escape character", "did not find expected hexdecimal number":
      message = "a backslash in double quotes begins an escape, and this is none"
      hint = "write `\\\\` for a backslash, or use single quotes"
    case "block sequence entries are not allowed in this context":
      message = "a list can't begin behind a key"
      hint = "put each `- item` on a line of its own, or write `[a, b]`"
    case "did not find expected <document start>":
      explainStray(line, here)
    case "did not find expected node content":
      message = "a value is expected, and \(found) is none"
      hint = "put the value in quotes"
    case "did not find expected comment or line break":
      message = "nothing but a comment may follow `|` or `>` in its line"
    default:
      break
    }
  }

  private init(place: Place, message: String) {
    self.place = place
    self.message = message
  }

  /// `key: value` where no key may stand: mostly the line before lacks its colon, or this one is indented too far.
  private mutating func explainMisplacedColon(_ line: SourceLine, _ here: Place) {
    if let first = line.firstColon, first + 1 < here.column {
      message = "a second `: ` follows in the same line"
      hint = "put a value that contains `: ` in quotes"
      return
    }
    guard let before = line.previous else {
      message = "a key can't stand here"
      return
    }
    if before.firstColon == nil {
      explainMissingColon(before, orElse: here)
    } else if line.indentation > before.indentation {
      place = line.place
      message = "the line is indented deeper than the one before, which has its value already"
      hint = "begin it in column \(before.indentation + 1), below \(before.key.quoted())"
    } else {
      message = "a key can't stand here"
    }
  }

  /// A line that has no `: `; maybe it has a colon, but no space after it.
  private mutating func explainMissingColon(_ line: SourceLine, orElse: Place) {
    place = line.content.isEmpty ? orElse : line.place
    if let before = line.previous, before.content.hasPrefix("- "), before.indentation == line.indentation {
      message = "a dash is missing before \(line.content.quoted())"
      hint = "write \("- \(line.content)".quoted())"
      return
    }
    let words = line.content.split(separator: " ", maxSplits: 1)
    let first = words.first.map(String.init) ?? ""
    if let colon = first.firstIndex(of: ":"), colon != first.startIndex {
      let (key, value) = (first[..<colon], first[first.index(after: colon)...])
      message = "a space is missing after the colon"
      hint = "write `\(key): \(value)`"
    } else {
      message = "a colon is missing after \(first.quoted())"
      hint = words.count == 2 ? "write \("\(first): \(words[1])".quoted())" : "write \("\(first):".quoted())"
    }
  }

  private mutating func explainUnexpected(
    _ line: SourceLine, _ here: Place, _ opening: Place, _ found: String, isList: Bool
  ) {
    if here.column == line.indentation + 1, here.column != opening.column {
      message = "the line is indented differently from those above that it belongs to"
      let near = line.previous.map { $0.indentation + 1 } ?? opening.column
      hint =
        near == opening.column
        ? "begin it in column \(near)" : "begin it in column \(near) as the line above, or in column \(opening.column)"
    } else if here.column == line.indentation + 1 {
      message =
        isList ? "the list goes on with something that is no `- item`" : "\(found) stands where a key is expected"
    } else {
      message = "\(found) follows a value that is complete"
      hint = "put the whole value in quotes"
    }
  }

  private mutating func explainUnclosed(_ here: Place, _ opening: Place, brackets: (String, String)) {
    if here.line == opening.line {
      message = "a comma or `\(brackets.1)` is missing before this"
    } else {
      place = opening
      message = "`\(brackets.0)` is not closed by `\(brackets.1)`"
    }
  }

  /// Something after the end of the outermost value.
  private mutating func explainStray(_ line: SourceLine, _ here: Place) {
    guard here.column == line.indentation + 1, let first = line.first else {
      message = "text follows the end of the document"
      return
    }
    place = line.place
    message = "the line is indented less than the first one of the file"
    hint = "begin both in the same column; the first begins in column \(first.indentation + 1)"
    if first.indentation <= line.indentation {
      message = "the line belongs to nothing above it"
      hint = nil
    }
  }
}

/// A line of a file as somebody reads it.
private struct SourceLine {
  private let source: SourceFile
  private let number: Int
  private let scalars: [Unicode.Scalar]

  /// Lines of more than 4,096 bytes were not written by hand, and count as empty.
  init(_ source: SourceFile, _ number: Int) {
    self.source = source
    self.number = number
    let line = source.line(number)
    scalars = line.count > 4096 ? [] : Array(String(decoding: line, as: UTF8.self).unicodeScalars)
  }

  /// Blanks at its beginning.
  var indentation: Int { scalars.prefix { $0 == " " || $0 == "\t" }.count }

  /// Without indentation, comment and trailing blanks.
  var content: String {
    var text = scalars[indentation...]
    for index in text.indices where text[index] == "#" && (index == text.startIndex || text[index - 1] == " ") {
      text = text[..<index]
      break
    }
    while let last = text.last, last == " " || last == "\t" { text.removeLast() }
    return String(String.UnicodeScalarView(text))
  }

  var place: Place {
    Place(source: source, line: number, column: indentation + 1, length: content.unicodeScalars.count)
  }

  /// The text before the first colon that ends a key.
  var key: String { String(String.UnicodeScalarView(scalars[..<(firstColon ?? scalars.count)].dropFirst(indentation))) }

  /// Offset of the first colon that a blank or the end of the line follows.
  var firstColon: Int? {
    scalars.indices.first { index in
      scalars[index] == ":" && (index + 1 == scalars.count || scalars[index + 1] == " " || scalars[index + 1] == "\t")
    }
  }

  /// The character in a column, from 1.
  func character(_ column: Int) -> String? {
    scalars.indices.contains(column - 1) ? String(Character(scalars[column - 1])) : nil
  }

  /// The nearest line above with more than a comment in it.
  var previous: SourceLine? { Self.first(in: stride(from: number - 1, to: max(0, number - 100), by: -1), source) }

  /// The file's first line with more than a comment in it.
  var first: SourceLine? { Self.first(in: stride(from: 1, to: number, by: 1), source) }

  private static func first(in numbers: StrideTo<Int>, _ source: SourceFile) -> SourceLine? {
    for number in numbers {
      let line = SourceLine(source, number)
      if !line.content.isEmpty, !line.content.hasPrefix("---") { return line }
    }
    return nil
  }
}
