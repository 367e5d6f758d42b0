/// `text` with everything escaped that could steer a terminal or end the line: `\u{1b}`.
///
/// What comes from a server is escaped where it enters; this is for what got past it, a hostile daemon included.
package func printable(_ text: String) -> String {
  var result = String.UnicodeScalarView()
  for scalar in text.unicodeScalars {
    switch scalar.properties.generalCategory {
    // Format characters include those that turn the direction of text around.
    case .control, .format, .lineSeparator, .paragraphSeparator:
      result.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
    default:
      result.append(scalar)
    }
  }
  return String(result)
}
