import AttachmentModel

/// How one kind of value is read from a node.
struct ValueReader<Value>: Sendable {
  /// For people and for the tests of the documents: `true or false`, `duration, 100ms to 1h, or infinity`.
  var form: String
  /// Reports what is wrong and returns `nil`.
  var read: @Sendable (YAMLNode, inout Diagnostics) -> Value?
}

extension ValueReader where Value: Sendable {
  /// `auto` as `nil`, or what the other reader takes.
  static func auto<Wrapped: Sendable>(or reader: ValueReader<Wrapped>) -> Self where Value == Wrapped? {
    let form = "auto or \(reader.form)"
    return ValueReader(form: form) { node, diagnostics in
      if case .scalar("auto", _) = node.content { return .some(nil) }
      return reader.read(node, &diagnostics).map { .some($0) }
    }
  }
}

extension ValueReader<String> {
  /// Any text, not empty, without control characters, and at most 4096 bytes.
  static let text = ValueReader(form: "text") { node, diagnostics in
    guard let text = node.text("a text", &diagnostics) else { return nil }
    guard !text.isEmpty else {
      diagnostics.report(at: node.place, "the value is empty")
      return nil
    }
    guard text.utf8.count <= 4096, text.unicodeScalars.allSatisfy(\.isSafeToShow) else {
      diagnostics.report(at: node.place, "the value is too long, or has characters that can't be seen")
      return nil
    }
    return text
  }

  /// An absolute path.
  static let path = ValueReader(form: "absolute path") { node, diagnostics in
    guard let path = text.read(node, &diagnostics) else { return nil }
    guard path.hasPrefix("/") else {
      diagnostics.report(
        at: node.place, "\(path.quoted()) is not an absolute path",
        hint: "write it from the root, such as `/etc/nbdattach/tls/\(path.drop { $0 == "." || $0 == "/" })`")
      return nil
    }
    return path
  }
}

extension ValueReader<Bool> {
  static let boolean = ValueReader(form: "true or false") { node, diagnostics in
    guard let text = node.text("`true` or `false`", &diagnostics) else { return nil }
    if case .scalar(_, .plain) = node.content {
      if text == "true" { return true }
      if text == "false" { return false }
    }
    let meant: String? =
      switch text.lowercased() {
      case "true", "yes", "on", "y", "1": "write `true`"
      case "false", "no", "off", "n", "0": "write `false`"
      default: nil
      }
    let isQuoted = text == "true" || text == "false"
    diagnostics.report(
      at: node.place, "\(isQuoted ? "a text in quotes" : text.quoted()) is neither `true` nor `false`", hint: meant)
    return nil
  }
}

extension ValueReader<Int> {
  static func integer(_ bounds: ClosedRange<Int>) -> Self {
    let limits = "\(bounds.lowerBound) to \(bounds.upperBound)"
    return ValueReader(form: "number, \(limits)") { node, diagnostics in
      guard let text = node.text("a number", &diagnostics) else { return nil }
      guard let number = Int(text), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
        diagnostics.report(at: node.place, "\(text.quoted()) is no whole number", hint: "write one from \(limits)")
        return nil
      }
      guard bounds.contains(number) else {
        diagnostics.report(at: node.place, "\(number) is out of range", hint: "write a number from \(limits)")
        return nil
      }
      return number
    }
  }

  /// A power of two, as a size.
  static func powerOfTwo(_ bounds: ClosedRange<UInt64>) -> Self {
    let size = ValueReader<UInt64>.size(bounds)
    return ValueReader(form: "power of two, \(bounds.lowerBound) to \(bounds.upperBound)") { node, diagnostics in
      guard let bytes = size.read(node, &diagnostics) else { return nil }
      guard bytes.nonzeroBitCount == 1 else {
        var below = bounds.lowerBound
        while below * 2 < bytes { below *= 2 }
        diagnostics.report(
          at: node.place, "\(bytes) is no power of two", hint: "the nearest are \(below) and \(below * 2)")
        return nil
      }
      return Int(clamping: bytes)
    }
  }
}

extension ValueReader<UInt64> {
  static func size(_ bounds: ClosedRange<UInt64>) -> Self {
    let limits = "\(ByteSize.format(bounds.lowerBound)) to \(ByteSize.format(bounds.upperBound))"
    return ValueReader(form: "size, \(limits)") { node, diagnostics in
      guard let text = node.text("a size such as `10GiB`", &diagnostics) else { return nil }
      guard let bytes = node.parsed(&diagnostics, { () throws(TextError) in try ByteSize.parse(text) }) else {
        return nil
      }
      guard bounds.contains(bytes) else {
        diagnostics.report(at: node.place, "\(text.quoted()) is out of range", hint: "write a size from \(limits)")
        return nil
      }
      return bytes
    }
  }
}

extension ValueReader<Duration> {
  static func duration(_ bounds: ClosedRange<Duration>) -> Self {
    let reader = ValueReader<Duration?>.span(bounds, allowsInfinity: false)
    return ValueReader(form: reader.form) { node, diagnostics in reader.read(node, &diagnostics) ?? nil }
  }
}

extension ValueReader<Duration?> {
  /// `infinity` as `nil`, or a duration within bounds.
  static func durationOrInfinity(_ bounds: ClosedRange<Duration>) -> Self { span(bounds, allowsInfinity: true) }

  fileprivate static func span(_ bounds: ClosedRange<Duration>, allowsInfinity: Bool) -> Self {
    let limits = "\(TimeSpan.format(bounds.lowerBound)) to \(TimeSpan.format(bounds.upperBound))"
    let orInfinity = allowsInfinity ? ", or infinity" : ""
    return ValueReader(form: "duration, \(limits)\(orInfinity)") { node, diagnostics in
      guard let text = node.text("a duration such as `10s`", &diagnostics) else { return nil }
      guard let span = node.parsed(&diagnostics, { () throws(TextError) in try TimeSpan.parse(text) }) else {
        return nil
      }
      guard span.map(bounds.contains) ?? allowsInfinity else {
        diagnostics.report(
          at: node.place, "\(text.quoted()) is out of range", hint: "write a duration from \(limits)\(orInfinity)")
        return nil
      }
      return .some(span)
    }
  }
}

extension ValueReader where Value: RawRepresentable<String> & CaseIterable & Sendable {
  /// One of the enumeration's raw values.
  static var word: Self {
    let words = Value.allCases.map(\.rawValue)
    return ValueReader(form: words.joined(separator: " or ")) { node, diagnostics in
      guard let text = node.text("one of \(words.joined(separator: ", "))", &diagnostics) else { return nil }
      if let value = Value(rawValue: text) { return value }
      diagnostics.report(
        at: node.place, "unknown value \(text.quoted())",
        hint: Spelling.closest(to: text, among: words + ["auto"]).map { "did you mean `\($0)`?" }
          ?? "the values are auto, \(words.joined(separator: ", "))")
      return nil
    }
  }
}

extension YAMLNode {
  /// The text of a scalar that is there; reports anything else.
  func text(_ expected: String, _ diagnostics: inout Diagnostics) -> String? {
    if case .scalar(let text, _) = content, !isNull { return text }
    diagnostics.report(
      at: place, isNull ? "the value is missing: \(expected) is expected" : "\(expected) is expected here, not \(kind)")
    return nil
  }

  /// What `parse` makes of this node's text; reports its error at the part of the text that it names.
  func parsed<Value>(_ diagnostics: inout Diagnostics, _ parse: () throws(TextError) -> Value) -> Value? {
    do throws(TextError) {
      return try parse()
    } catch {
      diagnostics.report(at: place(of: error.range), error.message, hint: error.hint)
      return nil
    }
  }
}
