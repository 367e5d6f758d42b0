import LinuxKernel
import Testing

@testable import Relay

@Suite("What wakes a sleeping relay in time", .timeLimit(.minutes(1)))
struct AlarmTests {
  private let mailbox: Mailbox
  private var alarm: Alarm

  init() throws {
    mailbox = try Mailbox()
    alarm = Alarm(mailbox.bell)
  }

  /// Longer than any test.
  private var late: UInt64 { monotonicNanoseconds() + 3_600_000_000_000 }

  /// Whether the bell rings; sleeps until it does when that is `expected`.
  private func rings(expected: Bool) -> Bool {
    var set = PollSet()
    defer { set.free() }
    set.begin(bell: mailbox.bell.number)
    set.setKernel(-1, reads: false, writes: false)
    set.poll(canSleep: expected)
    return set.isReadable(PollSet.bell)
  }

  @Test("one that is not set, or for never, is silent")
  mutating func unset() {
    #expect(!rings(expected: false))
    let isSet = alarm.set(by: .max)
    #expect(!isSet && !rings(expected: false))
  }

  @Test("it ends a sleep, and once cleared it is not set any more", arguments: [0, 1_000_000])
  mutating func rings(after nanoseconds: UInt64) {
    let isSet = alarm.set(by: monotonicNanoseconds() + nanoseconds)
    #expect(isSet && rings(expected: true))
    alarm.clear()
    #expect(!rings(expected: false))
    let isSetAgain = alarm.set(by: late)
    #expect(isSetAgain && !rings(expected: false))
  }

  @Test("an earlier time replaces a later one, not the other way round")
  mutating func earliest() {
    _ = alarm.set(by: late)
    #expect(!rings(expected: false))
    let isEarlier = alarm.set(by: 1)
    let isLater = alarm.set(by: late)
    #expect(isEarlier && !isLater && rings(expected: true))
  }

  @Test("a command rings before the time, and one that came before the alarm was set is not forgotten")
  mutating func commands() {
    _ = alarm.set(by: late)
    mailbox.post(.resume)
    #expect(rings(expected: true))
    alarm.clear()
    #expect(mailbox.take().count == 1)

    mailbox.post(.resume)
    _ = alarm.set(by: late)
    mailbox.ringAgain()
    #expect(rings(expected: true))
    alarm.clear()
    #expect(mailbox.take().count == 1)

    _ = alarm.set(by: late)
    mailbox.ringAgain()
    #expect(!rings(expected: false))
  }
}
