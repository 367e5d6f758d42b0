extension String {
  /// The text between backquotes, fit for one line of a message: control, format and line-breaking characters as
  /// `\u{…}`, and no more than `limit` characters of it.
  package func quoted(limit: Int = 60) -> String {
    var result = "`"
    for (count, scalar) in unicodeScalars.enumerated() {
      if count == limit {
        result += "…"
        break
      }
      if scalar.isSafeToShow {
        result.unicodeScalars.append(scalar)
      } else {
        result += "\\u{\(String(scalar.value, radix: 16))}"
      }
    }
    return result + "`"
  }
}

extension Unicode.Scalar {
  /// Neither a control nor a format character (such as those that reverse the writing direction) nor a line break.
  package var isSafeToShow: Bool {
    switch properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
    default: true
    }
  }
}
