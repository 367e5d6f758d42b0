/// Sizes in bytes as text: `512`, `64MiB`, `10GiB`.
///
/// A whole number and, without a space, nothing or one of B KiB MiB GiB TiB PiB EiB. `10GB` and `10G` are refused,
/// because programs disagree on what they mean, and so are fractions; the hint says what to write.
package enum ByteSize {
  /// Bytes; throws where the text is no size or does not fit 64 bits.
  package static func parse(_ text: String) throws(TextError) -> UInt64 {
    let number = try LeadingNumber(text, units: "B, KiB, MiB, GiB or TiB", example: "10GiB")
    let unitRange = number.unitRange
    if number.unit.isEmpty, number.fraction == nil { return number.whole }
    guard let unit = unit(named: number.unit) else {
      throw TextError(
        .unit, unitRange, "unknown unit \(number.unit.quoted()) of a size",
        hint: "write bytes without a unit, or one of KiB, MiB, GiB, TiB, such as `10GiB`")
    }
    if unit.suffix != number.unit {
      let isBareLetter = number.unit.utf8.count == 1 || number.unit.utf8.last.map { $0 | 0x20 } == UInt8(ascii: "b")
      let meaning = "powers of 1024 are written \(unit.suffix)"
      throw TextError(
        .unit, unitRange,
        isBareLetter && !number.unit.lowercased().contains("i")
          ? "\(number.unit.quoted()) is ambiguous: it means powers of 1000 to some and of 1024 to others"
          : "unknown unit \(number.unit.quoted()) of a size",
        hint: "\(meaning): `\(number.numberText)\(unit.suffix)`")
    }
    if number.fraction != nil {
      throw TextError(
        .number, number.numberRange, "a size is a whole number",
        hint: number.scaled(by: unit.bytes).map { "write `\(format($0))`" })
    }
    let (bytes, overflow) = number.whole.multipliedReportingOverflow(by: unit.bytes)
    guard !overflow else { throw TextError(.whole, 0..<text.utf8.count, "the size is larger than 16EiB") }
    return bytes
  }

  /// The shortest exact text, in the largest unit that leaves no rest; `parse` gives the same bytes back.
  package static func format(_ bytes: UInt64) -> String {
    for unit in units.reversed() where unit.bytes > 1 && bytes >= unit.bytes && bytes.isMultiple(of: unit.bytes) {
      return "\(bytes / unit.bytes)\(unit.suffix)"
    }
    return "\(bytes)"
  }

  private struct Unit {
    var suffix: String
    var bytes: UInt64
  }

  private static let units = [
    Unit(suffix: "B", bytes: 1), Unit(suffix: "KiB", bytes: 1 << 10), Unit(suffix: "MiB", bytes: 1 << 20),
    Unit(suffix: "GiB", bytes: 1 << 30), Unit(suffix: "TiB", bytes: 1 << 40), Unit(suffix: "PiB", bytes: 1 << 50),
    Unit(suffix: "EiB", bytes: 1 << 60),
  ]

  /// The unit meant by `KiB`, `kib`, `kB`, `K`; the caller compares the spelling. No unit at all means bytes.
  private static func unit(named text: String) -> Unit? {
    let letters = text.lowercased()
    if letters.isEmpty { return Unit(suffix: "", bytes: 1) }
    return units.first { unit in
      let suffix = unit.suffix.lowercased()
      return letters == suffix || (unit.bytes > 1 && (letters == suffix.prefix(1) || letters == suffix.prefix(1) + "b"))
    }
  }
}
