import AttachmentModel

/// The text of one file, and its lines.
final class SourceFile: Sendable {
  let path: String
  /// Without a byte order mark.
  let bytes: [UInt8]
  /// Where each line begins in `bytes`.
  private let lineStarts: [Int]

  init(path: String, bytes: [UInt8]) {
    self.path = path
    let byteOrderMark: [UInt8] = [0xEF, 0xBB, 0xBF]
    self.bytes = bytes.starts(with: byteOrderMark) ? Array(bytes.dropFirst(byteOrderMark.count)) : bytes
    var starts = [0]
    for (index, byte) in self.bytes.enumerated() where byte == UInt8(ascii: "\n") { starts.append(index + 1) }
    lineStarts = starts
  }

  /// The bytes of a line (from 1) without its line break; empty for a line that is not there.
  func line(_ number: Int) -> ArraySlice<UInt8> {
    guard lineStarts.indices.contains(number - 1) else { return [] }
    let end = lineStarts.indices.contains(number) ? lineStarts[number] - 1 : bytes.count
    let line = bytes[lineStarts[number - 1]..<end]
    return line.last == UInt8(ascii: "\r") ? line.dropLast() : line
  }

  /// The place of one byte.
  func place(ofByte offset: Int) -> Place {
    var low = 0
    var high = lineStarts.count
    while high - low > 1 {
      let middle = (low + high) / 2
      if lineStarts[middle] <= offset { low = middle } else { high = middle }
    }
    let column = String(decoding: bytes[lineStarts[low]..<min(offset, bytes.count)], as: UTF8.self).unicodeScalars.count
    return Place(source: self, line: low + 1, column: column + 1, length: 1)
  }

  private static let excerptLength = 160
  private static let longestLine = 65_536

  /// At most 160 characters of the line around the place; `nil` for lines of more than 64 KiB.
  func excerpt(at place: Place) -> Diagnostic.Excerpt? {
    let line = line(place.line)
    guard place.line > 0, line.count <= Self.longestLine else { return nil }
    let scalars = Array(String(decoding: line, as: UTF8.self).unicodeScalars)
    let caret = min(max(0, place.column - 1), scalars.count)
    let first = max(0, min(caret - Self.excerptLength / 2, scalars.count - Self.excerptLength))
    let window = scalars[first..<min(scalars.count, first + Self.excerptLength)]
    var text = ""
    for scalar in window {
      text.unicodeScalars.append(scalar == "\t" ? "→" : scalar.isSafeToShow ? scalar : "\u{FFFD}")
    }
    let end = min(max(caret + max(1, place.length), caret + 1), max(window.endIndex, caret + 1))
    return Diagnostic.Excerpt(text: text, caret: caret - first..<end - first)
  }
}

/// A stretch of one line of a file. Lines and columns count from 1, columns and lengths in Unicode scalars.
struct Place: Sendable {
  var source: SourceFile
  var line: Int
  var column: Int
  var length: Int

  /// `FILE:LINE`, for messages that cite a second place.
  var cited: String { "\(source.path.showable):\(line)" }
}
