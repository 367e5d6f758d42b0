import FoundationEssentials

/// A moment, in JSON an RFC 3339 string in UTC with milliseconds: `2026-01-31T09:30:00.000Z`.
package struct Timestamp: Codable, Equatable, Sendable, CustomStringConvertible {
  /// Seconds since the epoch, to the millisecond.
  package let seconds: Double

  /// Moments outside of the years 1970 to 9999 become the nearest within.
  package init(_ seconds: Double) {
    let inRange = seconds.isNaN ? 0 : min(max(seconds, 0), 253_402_300_799)
    self.seconds = (inRange * 1000).rounded() / 1000
  }

  package var description: String {
    Timestamp.style.format(Date(timeIntervalSince1970: seconds))
  }

  /// To the second, for people.
  package var withoutFraction: String {
    Date.ISO8601FormatStyle().format(Date(timeIntervalSince1970: seconds.rounded(.down)))
  }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let date = try? Timestamp.style.parse(container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not an RFC 3339 time")
    }
    self.init(date.timeIntervalSince1970)
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }

  private static var style: Date.ISO8601FormatStyle { Date.ISO8601FormatStyle(includingFractionalSeconds: true) }
}
