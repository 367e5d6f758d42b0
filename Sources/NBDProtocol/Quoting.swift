/// `text` in double quotes, fit for one line of a log or a terminal: whatever is not visible text is escaped, and past
/// `limit` scalars it ends in `…`.
///
/// Escaped are quotes, backslashes, controls, line and paragraph separators, format characters (which could reorder a
/// line), and private or unassigned code points.
package func quoted(_ text: String, limit: Int = 200) -> String {
  var result = "\""
  var count = 0
  for scalar in text.unicodeScalars {
    guard count < limit else { return result + "…\"" }
    count += 1
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case "\r": result += "\\r"
    case "\t": result += "\\t"
    default:
      if scalar.isVisible {
        result.unicodeScalars.append(scalar)
      } else {
        result += "\\u{" + String(scalar.value, radix: 16) + "}"
      }
    }
  }
  return result + "\""
}

extension Unicode.Scalar {
  fileprivate var isVisible: Bool {
    switch properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
    default: true
    }
  }
}
