import AttachmentModel

extension SourceFile {
  /// The largest file that is read.
  static let maximumSize = 4 << 20

  /// Reports the first byte that no YAML file may have, and says whether there was none.
  ///
  /// libyaml would find most of these too, but without a usable place, and it takes U+0085, U+2028 and U+2029 for
  /// line breaks, which no editor does.
  func isText(_ diagnostics: inout Diagnostics) -> Bool {
    var parser = Unicode.UTF8.ForwardParser()
    var iterator = bytes.makeIterator()
    var offset = 0
    while true {
      switch parser.parseScalar(from: &iterator) {
      case .emptyInput:
        return true
      case .error:
        diagnostics.report(
          at: place(ofByte: offset), "the file is not valid UTF-8",
          hint: "byte 0x\(String(bytes[offset], radix: 16)); save the file as UTF-8")
        return false
      case .valid(let encoded):
        let next = offset + encoded.count
        let scalar = Unicode.UTF8.decode(encoded)
        let following = next < bytes.count ? bytes[next] : nil
        if scalar == "%", offset == 0 || bytes[offset - 1] == UInt8(ascii: "\n") {
          // libyaml compares each %TAG with all before it: a file full of them takes minutes.
          diagnostics.report(
            at: place(ofByte: offset), "directives, lines that begin with %, are not read", hint: "remove the line")
          return false
        }
        if let problem = problem(scalar, followedBy: following) {
          diagnostics.report(at: place(ofByte: offset), problem.message, hint: problem.hint)
          return false
        }
        offset = next
      }
    }
  }

  private func problem(_ scalar: Unicode.Scalar, followedBy next: UInt8?) -> (message: String, hint: String?)? {
    switch scalar.value {
    case 0x09, 0x0A, 0x20...0x7E: nil
    case 0x0D:
      next == UInt8(ascii: "\n")
        ? nil : ("a carriage return that ends no line", "end lines with a newline, or with both")
    case 0x00: ("the file contains a NUL character", "is it a text file?")
    case 0x85, 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF, 0x01...0x1F, 0x7F...0x9F:
      ("the character U+\(hexadecimal(scalar.value)) may not stand in a YAML file", nil)
    default: nil
    }
  }

  private func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
  }
}
