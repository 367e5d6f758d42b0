/// Acknowledged bytes that a server refuses to take once more.
package struct LostRange: Equatable, Sendable {
  package var offset: UInt64
  /// From the first lost byte to the last, in bytes.
  package var length: UInt64
  /// What the server answered; the first of several.
  package var error: UInt32
  /// How many writes are lost.
  package var writes: Int
  /// How many bytes are lost: all of `length`, but where the range stands for many that are apart.
  package var bytes: UInt64

  package init(offset: UInt64, length: UInt64, error: UInt32, writes: Int = 1) {
    self.offset = offset
    self.length = length
    self.error = error
    self.writes = writes
    bytes = length
  }

  fileprivate var end: UInt64 {
    let (end, overflows) = offset.addingReportingOverflow(length)
    return overflows ? .max : end
  }
}

/// What one replay has lost, until it is told.
///
/// A server that is full or read-only refuses all of the log: told write by write that would be more than the journal
/// takes.
struct Losses {
  /// More ranges than this are told of as one.
  static let mostRanges = 64

  private var refused: [LostRange] = []

  mutating func add(_ range: LostRange) { refused.append(range) }

  /// In the order of their offsets, each as long as can be; what is beyond the bound is in one range at the end.
  mutating func take() -> [LostRange] {
    guard !refused.isEmpty else { return [] }
    var ranges: [LostRange] = []
    for range in refused.sorted(by: { ($0.offset, $0.error) < ($1.offset, $1.error) }) {
      if let last = ranges.last, last.error == range.error, range.offset <= last.end {
        let end = max(last.end, range.end)
        ranges[ranges.count - 1].length = end - last.offset
        ranges[ranges.count - 1].bytes = end - last.offset
        ranges[ranges.count - 1].writes += range.writes
      } else {
        ranges.append(range)
      }
    }
    refused = []
    guard ranges.count > Losses.mostRanges else { return ranges }
    var rest = ranges[Losses.mostRanges]
    for range in ranges[(Losses.mostRanges + 1)...] {
      rest.length = max(rest.end, range.end) - rest.offset
      rest.bytes += range.bytes
      rest.writes += range.writes
    }
    return ranges[..<Losses.mostRanges] + [rest]
  }
}

extension RelayLedger {
  mutating func tellLosses() {
    for range in losses.take() { report(.dataLost(range)) }
  }
}
