/// RFC 3986, section 2.
enum PercentEncoding {
  /// Replaces each `%XX` by its byte; a `%` that no two hexadecimal digits follow stays.
  static func decode(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
    var result: [UInt8] = []
    result.reserveCapacity(bytes.count)
    var rest = bytes
    while let byte = rest.popFirst() {
      let digits = rest.prefix(2)
      if byte == UInt8(ascii: "%"), digits.count == 2, let high = digits.first?.hexValue,
        let low = digits.last?.hexValue
      {
        result.append(high << 4 | low)
        rest = rest.dropFirst(2)
      } else {
        result.append(byte)
      }
    }
    return result
  }

  /// Escapes every byte of the text's UTF-8 but those that `isPlain` lets through.
  static func encode(_ text: String, isPlain: (UInt8) -> Bool) -> String {
    var result: [UInt8] = []
    for byte in text.utf8 {
      if isPlain(byte) {
        result.append(byte)
      } else {
        result += [UInt8(ascii: "%"), hexDigit(byte >> 4), hexDigit(byte & 15)]
      }
    }
    return String(decoding: result, as: UTF8.self)
  }

  private static func hexDigit(_ value: UInt8) -> UInt8 {
    value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + value - 10
  }
}

extension UInt8 {
  /// `unreserved` of RFC 3986.
  var isUnreserved: Bool {
    isLetter || isDigit || [UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "~")].contains(self)
  }

  /// `unreserved`, `reserved` or the percent sign.
  var isAllowedInURI: Bool { isUnreserved || reserved.contains(self) || self == UInt8(ascii: "%") }
}

private let reserved = Set(":/?#[]@!$&'()*+,;=".utf8)
