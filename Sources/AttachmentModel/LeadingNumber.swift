/// The number and the unit of a text such as `10GiB` or `1.5s`, before anybody judges the unit.
struct LeadingNumber {
  /// The part before any decimal point.
  var whole: UInt64
  /// The digits after a decimal point, at least one; `nil` without a point.
  var fraction: String?
  var unit: String
  /// `1.5` of `1.5GiB`.
  var numberText: String
  var numberRange: Range<Int>
  var unitRange: Range<Int>

  /// Throws where the text does not start with a number, has a sign or a space in it, or does not fit 64 bits.
  init(_ text: String, units: String, example: String) throws(TextError) {
    let bytes = Array(text.utf8)
    let all = 0..<bytes.count
    let form = "write a number and one of \(units), such as `\(example)`"
    let digits = bytes.prefix(while: \.isDigit).count
    guard digits > 0 else {
      if bytes.first == UInt8(ascii: "-") { throw TextError(.number, all, "a negative number makes no sense here") }
      throw TextError(.number, all, "\(text.quoted()) does not start with a number", hint: form)
    }
    guard let whole = UInt64(String(decoding: bytes[..<digits], as: UTF8.self)) else {
      throw TextError(.number, 0..<digits, "the number is too large")
    }
    var end = digits
    if end < bytes.count, bytes[end] == UInt8(ascii: ".") {
      let decimals = bytes[(end + 1)...].prefix(while: \.isDigit)
      guard !decimals.isEmpty else {
        throw TextError(.number, 0..<end + 1, "digits are missing after the point", hint: form)
      }
      fraction = String(decoding: decimals, as: UTF8.self)
      end = decimals.endIndex
    }
    if end < bytes.count, bytes[end] == UInt8(ascii: " ") {
      let packed = String(decoding: bytes.filter { $0 != UInt8(ascii: " ") }, as: UTF8.self)
      throw TextError(.unit, all, "there is a space between number and unit", hint: "write \(packed.quoted())")
    }
    self.whole = whole
    unit = String(decoding: bytes[end...], as: UTF8.self)
    numberText = String(decoding: bytes[..<end], as: UTF8.self)
    numberRange = 0..<end
    unitRange = end..<bytes.count
  }

  /// The number times `factor`, where that is a whole number that fits 64 bits.
  func scaled(by factor: UInt64) -> UInt64? {
    guard let fraction, fraction.utf8.count <= 9, let numerator = UInt64(fraction) else { return nil }
    var denominator: UInt64 = 1
    for _ in fraction.utf8 { denominator *= 10 }
    let part = numerator.multipliedReportingOverflow(by: factor)
    guard !part.overflow, part.partialValue.isMultiple(of: denominator) else { return nil }
    let base = whole.multipliedReportingOverflow(by: factor)
    guard !base.overflow else { return nil }
    let sum = base.partialValue.addingReportingOverflow(part.partialValue / denominator)
    return sum.overflow ? nil : sum.partialValue
  }
}

extension UInt8 {
  var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
  var isLetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) }

  /// 0 to 15, or `nil` for what is no hexadecimal digit.
  var hexValue: UInt8? {
    switch self {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): self - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): self - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): self - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
