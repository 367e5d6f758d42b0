/// Spans of time as text: `100ms`, `10s`, `1min`, `1h`, `7d`, `infinity`.
///
/// A whole number and its unit, without a space. A number alone is refused, so that nobody has to know in which
/// unit it counts, and so are fractions and sums; the hint says what to write.
package enum TimeSpan {
  /// The span, or `nil` for `infinity`; throws where the text is neither, or too long to be meant (over 10 years).
  package static func parse(_ text: String) throws(TextError) -> Duration? {
    if text == "infinity" { return nil }
    let whole = 0..<text.utf8.count
    if Spelling.closest(to: text, among: ["infinity", "infinite", "inf", "forever", "never", "unlimited"]) != nil {
      throw TextError(.whole, whole, "\(text.quoted()) is no span of time", hint: "no limit is written `infinity`")
    }
    let number = try LeadingNumber(text, units: "ms, s, min, h or d", example: "10s")
    guard let unit = units.first(where: { $0.suffix == number.unit }) else {
      throw unknownUnit(number)
    }
    if number.fraction != nil {
      throw TextError(
        .number, number.numberRange, "a span of time is a whole number of its unit",
        hint: number.scaled(by: unit.milliseconds).map { "write `\(format(.milliseconds($0)))`" })
    }
    let (milliseconds, overflow) = number.whole.multipliedReportingOverflow(by: unit.milliseconds)
    guard !overflow, milliseconds <= longest else {
      throw TextError(.whole, whole, "the span of time is longer than 10 years", hint: "`infinity` means no limit")
    }
    return .milliseconds(milliseconds)
  }

  /// The exact text in the largest unit that leaves no rest; `nil` is `infinity`. What is finer than a millisecond
  /// is dropped, and a negative span is `0s`.
  package static func format(_ span: Duration?) -> String {
    guard let span else { return "infinity" }
    let (seconds, attoseconds) = span.components
    guard seconds >= 0, attoseconds >= 0, seconds <= Int64.max / 2000 else { return seconds < 0 ? "0s" : "infinity" }
    let milliseconds = UInt64(seconds) * 1000 + UInt64(attoseconds / 1_000_000_000_000_000)
    for unit in units.reversed()
    where milliseconds >= unit.milliseconds && milliseconds.isMultiple(of: unit.milliseconds) {
      return "\(milliseconds / unit.milliseconds)\(unit.suffix)"
    }
    return "0s"
  }

  private struct Unit {
    var suffix: String
    var milliseconds: UInt64
  }

  private static let units = [
    Unit(suffix: "ms", milliseconds: 1), Unit(suffix: "s", milliseconds: 1000),
    Unit(suffix: "min", milliseconds: 60_000), Unit(suffix: "h", milliseconds: 3_600_000),
    Unit(suffix: "d", milliseconds: 86_400_000),
  ]

  private static let longest: UInt64 = 3650 * 86_400_000

  private static func unknownUnit(_ number: LeadingNumber) -> TextError {
    let meant: String? =
      switch number.unit.lowercased() {
      case "": "s"
      case "m", "mins", "minute", "minutes": "min"
      case "sec", "secs", "second", "seconds": "s"
      case "msec", "millisecond", "milliseconds": "ms"
      case "hr", "hour", "hours": "h"
      case "day", "days": "d"
      default: Spelling.closest(to: number.unit, among: units.map(\.suffix))
      }
    let hint = meant.map { "write `\(number.numberText)\($0)`" } ?? "the units are ms, s, min, h and d, such as `10s`"
    if number.unit.isEmpty {
      return TextError(.unit, number.numberRange, "a span of time needs a unit", hint: hint)
    }
    return TextError(.unit, number.unitRange, "unknown unit \(number.unit.quoted()) of a span of time", hint: hint)
  }
}
