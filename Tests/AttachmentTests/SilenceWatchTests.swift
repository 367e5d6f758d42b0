import FakeDriver
import LinuxKernel
import Synchronization
import Testing

@testable import Attachment

@Suite("a device that is silent")
struct SilenceWatchTests {
  private let directory: TemporaryDirectory
  private let driver: FakeDriver
  private let silences = Silences()

  private final class Silences: Sendable {
    let count = Mutex(0)
  }

  init() throws {
    directory = try TemporaryDirectory()
    driver = FakeDriver(root: directory.path)
    driver.add(5000)
    count(inflight: 0, answered: 100)
  }

  /// What the block layer counts from now on: reads in flight, and writes answered.
  private func count(inflight: Int, answered: Int) {
    driver.write("       \(inflight)        0", to: "inflight", of: 5000)
    driver.write("0 0 0 0 \(answered) 0 0 0 \(inflight) 0 0 0 0 0 0 0 0", to: "stat", of: 5000)
  }

  private func watch() -> SilenceWatch {
    let silences = silences
    return SilenceWatch(limit: .seconds(10), index: 5000, sysfs: driver.sysfs) { silences.count.withLock { $0 += 1 } }
  }

  private var told: Int { silences.count.withLock { $0 } }

  @Test("requests that wait for the limit without any answer are a silence, told once for each")
  func silence() {
    let watch = watch()
    count(inflight: 3, answered: 100)
    watch.look(at: 1000)
    watch.look(at: 1009.9)
    #expect(told == 0)
    watch.look(at: 1010)
    #expect(told == 1)
    watch.look(at: 1011)
    watch.look(at: 1019.9)
    #expect(told == 1)
    watch.look(at: 1020)
    #expect(told == 2)
  }

  @Test("a slow server that answers now and then is not silent")
  func slow() {
    let watch = watch()
    for second in stride(from: 0, to: 100, by: 9) {
      count(inflight: 1, answered: 100 + second)
      watch.look(at: Double(second))
    }
    #expect(told == 0)
  }

  @Test("a device of which nobody wants anything is not silent, however long")
  func idle() {
    let watch = watch()
    for second in 0..<100 { watch.look(at: Double(second)) }
    // Nor does the idle time count when something is wanted.
    count(inflight: 1, answered: 100)
    watch.look(at: 100)
    watch.look(at: 105)
    #expect(told == 0)
  }

  @Test("a device that is gone, or counts nothing, is not silent", arguments: ["inflight", "stat"])
  func noCounters(file: String) throws {
    let watch = watch()
    count(inflight: 1, answered: 100)
    watch.look(at: 0)
    try directory.remove("block/nbd5000/\(file)")
    watch.look(at: 5)
    if file == "inflight" { watch.look(at: 50) }
    #expect(told == 0)
  }

  @Test("with one link and a request-timeout the silent link is shut down, which is its loss")
  func device() async throws {
    let lab = try NetlinkLab()
    let (_, pairs) = try await lab.bound { $0.requestTimeout = .milliseconds(40) }
    lab.driver.write("1 0", to: "inflight", of: 5000)
    lab.driver.write("0 0 0 0 0 0 0 0 1 0 0", to: "stat", of: 5000)
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    #expect(pairs[0].hasEnded)
  }
}
