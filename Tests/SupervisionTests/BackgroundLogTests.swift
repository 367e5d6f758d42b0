import Dispatch
import Supervision
import Synchronization
import Systemd
import Testing

@Suite("a log that never makes its caller wait")
struct BackgroundLogTests {
  /// A log that takes nothing while it is shut.
  ///
  /// Concurrency model: `messages` is shared by the log's thread and the test, under its mutex.
  private final class Sink: Sendable {
    private let messages = Mutex<[String]>([])
    private let gate = DispatchSemaphore(value: 0)
    private let arrival = DispatchSemaphore(value: 0)
    private let isShut: Mutex<Bool>

    init(isShut: Bool) { self.isShut = Mutex(isShut) }

    var log: Log {
      Log { entry in
        self.arrival.signal()
        if self.isShut.withLock({ $0 }) { self.gate.wait() }
        self.messages.withLock { $0.append(entry.message) }
      }
    }

    var taken: [String] { messages.withLock { $0 } }

    /// Returns when an entry stands before the gate.
    func waitForArrival() { arrival.wait() }

    func open() {
      isShut.withLock { $0 = false }
      gate.signal()
    }
  }

  @Test("entries come out in their order, and flushing waits for all of them")
  func order() async {
    let sink = Sink(isShut: false)
    let background = BackgroundLog(sink.log)
    for number in 0..<1000 { background.log(.info, "\(number)") }
    #expect(await background.flush(within: .seconds(60)))
    #expect(sink.taken == (0..<1000).map { "\($0)" })
  }

  @Test("while the log takes none callers go on, and what did not fit is counted and told in its place")
  func dropped() async {
    let sink = Sink(isShut: true)
    let background = BackgroundLog(sink.log, limit: 3)
    background.log(.info, "first")
    sink.waitForArrival()
    for number in 0..<10 { background.log(.info, "\(number)") }
    #expect(sink.taken == [])
    sink.open()
    #expect(await background.flush(within: .seconds(60)))
    background.log(.info, "last")
    #expect(await background.flush(within: .seconds(60)))
    #expect(sink.taken == ["first", "0", "1", "2", "7 entries were dropped while the log took none", "last"])
  }

  @Test("flushing ends when its time is over, and what waits comes out later")
  func flushInVain() async {
    let sink = Sink(isShut: true)
    let background = BackgroundLog(sink.log)
    background.log(.info, "a")
    #expect(await background.flush(within: .milliseconds(1)) == false)
    #expect(sink.taken == [])
    sink.open()
    #expect(await background.flush(within: .seconds(60)))
    #expect(sink.taken == ["a"])
  }

  @Test("flushing a log with nothing to say returns")
  func flushNothing() async {
    let background = BackgroundLog(Sink(isShut: true).log)
    #expect(await background.flush(within: .seconds(60)))
  }
}
