import CSystemd
import Glibc

/// The service manager that started this process, told by sd_notify(3) what the process is up to.
///
/// Without one (`$NOTIFY_SOCKET` unset: run by hand, or in a test) every notification is dropped.
package struct ServiceManager: Sendable {
  package let isPresent: Bool
  /// How often the manager wants to hear `.watchdog`, at the latest; send it twice as often. `nil`: it does not watch.
  package let watchdogInterval: Duration?

  /// No manager: drops every notification.
  package static let absent = ServiceManager(isPresent: false, watchdogInterval: nil)

  /// The manager named by `$NOTIFY_SOCKET`, `$WATCHDOG_USEC` and `$WATCHDOG_PID`, or `absent`.
  package static func fromEnvironment() -> ServiceManager {
    var microseconds: UInt64 = 0
    let isWatched = sd_watchdog_enabled(0, &microseconds) > 0
    return ServiceManager(
      isPresent: getenv("NOTIFY_SOCKET") != nil,
      watchdogInterval: isWatched ? .microseconds(Int64(clamping: microseconds)) : nil)
  }

  /// Sends `notifications` in one datagram, which the manager takes in whole or not at all.
  package func notify(_ notifications: Notification...) throws(SystemdError) {
    try notify(notifications)
  }

  /// Sends `notifications` in one datagram, which the manager takes in whole or not at all.
  package func notify(_ notifications: [Notification]) throws(SystemdError) {
    guard isPresent, !notifications.isEmpty else { return }
    let result = sd_notify(0, Notification.datagram(notifications))
    if result < 0 { throw .notify(code: -result) }
  }
}
