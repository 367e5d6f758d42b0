import Glibc

/// One line of a message to the service manager (sd_notify(3)).
package enum Notification: Equatable, Sendable {
  case ready
  /// A reload began at this time of CLOCK_MONOTONIC; `ready` ends it.
  case reloading(monotonicMicroseconds: UInt64)
  case stopping
  /// One sentence for `systemctl status`; control characters become spaces, and it is cut at `statusLimit` bytes.
  case status(String)
  /// Still alive.
  case watchdog
  /// The start, reload or stop under way needs this much longer, from now.
  case extendTimeout(Duration)
  /// Why the service failed.
  case errno(Int32)

  /// A reload that begins now.
  package static func reloading() -> Notification {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return .reloading(monotonicMicroseconds: UInt64(now.tv_sec) * 1_000_000 + UInt64(now.tv_nsec) / 1000)
  }

  /// In bytes of UTF-8. The manager drops datagrams of more than 4096 bytes whole (systemd, `NOTIFY_BUFFER_MAX`).
  package static let statusLimit = 1024

  /// The text of one datagram: one line for each, in this order.
  static func datagram(_ notifications: [Notification]) -> String {
    notifications.map(\.text).joined(separator: "\n")
  }

  private var text: String {
    switch self {
    case .ready: "READY=1"
    case .reloading(let monotonicMicroseconds): "RELOADING=1\nMONOTONIC_USEC=\(monotonicMicroseconds)"
    case .stopping: "STOPPING=1"
    case .status(let sentence): "STATUS=" + Notification.oneLine(sentence)
    case .watchdog: "WATCHDOG=1"
    case .extendTimeout(let duration): "EXTEND_TIMEOUT_USEC=\(Notification.microseconds(duration))"
    case .errno(let code): "ERRNO=\(code)"
    }
  }

  private static func oneLine(_ sentence: String) -> String {
    var line = String.UnicodeScalarView()
    var bytes = 0
    for scalar in sentence.unicodeScalars {
      let scalar = scalar.properties.generalCategory == .control ? " " : scalar
      bytes += UTF8.width(scalar)
      if bytes > statusLimit { break }
      line.append(scalar)
    }
    return String(line)
  }

  static func microseconds(_ duration: Duration) -> Int64 {
    let (seconds, attoseconds) = duration.components
    let (whole, isTooLong) = seconds.multipliedReportingOverflow(by: 1_000_000)
    return isTooLong ? .max : max(0, whole.addingReportingOverflow(attoseconds / 1_000_000_000_000).partialValue)
  }
}
