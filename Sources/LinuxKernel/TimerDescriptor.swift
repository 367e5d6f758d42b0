import CLinuxNBD
import Glibc

/// timerfd(2) on CLOCK_MONOTONIC.
package enum TimerDescriptor {
  /// Nonblocking, and not set. Throws what timerfd_create(2) answers.
  package static func make() throws(SystemCallError) -> FileDescriptor {
    let number = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC) | Int32(TFD_NONBLOCK))
    guard number >= 0 else { throw SystemCallError("timerfd_create", errno) }
    return FileDescriptor(owning: number)
  }

  /// Readable from that time on, in monotonic nanoseconds, not 0; it replaces what was set before.
  package static func set(_ number: Int32, to time: UInt64) {
    var new = itimerspec()
    new.it_value.tv_sec = Int(clamping: time / 1_000_000_000)
    new.it_value.tv_nsec = Int(time % 1_000_000_000)
    timerfd_settime(number, Int32(TFD_TIMER_ABSTIME), &new, nil)
  }

  /// Not readable any more, if it was.
  package static func clear(_ number: Int32) {
    var count: UInt64 = 0
    while read(number, &count, 8) < 0, errno == EINTR {}
  }
}
