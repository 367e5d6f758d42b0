import LinuxKernel

/// Makes the bell of a mailbox ring in time, to end a sleep in poll(2).
///
/// It is set about once a second. A limit of poll's own would set and stop a timer of the kernel's with each request,
/// which for one request at a time cost a sixth of the throughput.
///
/// Concurrency model: the relay's thread alone; others ring the bell at any time. To set the alarm takes such a ring away:
/// `Mailbox.ringAgain` belongs after it.
struct Alarm {
  private let bell: OpenFile
  /// In monotonic nanoseconds; 0: it is not set.
  private var time: UInt64 = 0

  init(_ bell: OpenFile) { self.bell = bell }

  /// Goes off at that time at the latest, `.max` for never: one that is set for an earlier time stays, and the sleeper
  /// looks again. Whether it was set.
  mutating func set(by wanted: UInt64) -> Bool {
    guard wanted < .max, time == 0 || wanted < time else { return false }
    time = max(wanted, 1)
    TimerDescriptor.set(bell.number, to: time)
    return true
  }

  /// After the bell has rung, for whatever reason.
  mutating func clear() {
    TimerDescriptor.clear(bell.number)
    time = 0
  }
}
