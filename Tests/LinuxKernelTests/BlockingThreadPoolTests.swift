import Dispatch
import Glibc
import Synchronization
import Testing

@testable import LinuxKernel

@Suite("a bounded pool of threads")
struct BlockingThreadPoolTests {
  @Test("what ends in time gives its value")
  func value() async throws {
    let pool = BlockingThreadPool(name: "test", threads: 2)
    guard case .ended(let value) = await pool.run(within: .seconds(60), { 7 }) else {
      Issue.record("no value")
      return
    }
    #expect(value == 7)
  }

  @Test("everything that is submitted is run once, and never more at a time than there are threads")
  func bound() async {
    let pool = BlockingThreadPool(name: "test", threads: 3)
    let counts = Counts()
    await withTaskGroup(of: Void.self) { group in
      for _ in 0..<200 {
        group.addTask {
          _ = await pool.run(within: .seconds(60)) {
            counts.enter()
            usleep(200)
            counts.leave()
          }
        }
      }
    }
    #expect(counts.runs == 200)
    #expect(counts.most <= 3)
  }

  @Test("calls that never return are left behind at the deadline, and what waits behind them is never begun")
  func hanging() async {
    let pool = BlockingThreadPool(name: "test", threads: 2)
    let gate = Gate()
    let hung = await withTaskGroup(of: Bool?.self) { group in
      for _ in 0..<2 {
        group.addTask { Self.hasBegun(await pool.run(within: .milliseconds(300)) { gate.wait() }) }
      }
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(hung == [true, true])

    let begun = Counts()
    for _ in 0..<5 {
      let outcome = await pool.run(within: .milliseconds(10)) { begun.enter() }
      #expect(Self.hasBegun(outcome) == false)
    }
    gate.open()
    // The threads are back: what comes now is run, and what was withdrawn was not.
    #expect(Self.hasBegun(await pool.run(within: .seconds(60)) {}) == nil)
    #expect(begun.most == 0)
  }

  @Test("what was withdrawn lets go of what it owned")
  func ownership() async {
    let pool = BlockingThreadPool(name: "test", threads: 1)
    let gate = Gate()
    pool.submit({ gate.wait() }, refusal: { _ in })
    weak var owned: Owner?
    let ticket: BlockingThreadPool.Ticket
    do {
      let owner = Owner()
      owned = owner
      ticket = pool.submit({ withExtendedLifetime(owner) {} }, refusal: { _ in })
    }
    #expect(owned != nil)
    #expect(pool.withdraw(ticket))
    #expect(owned == nil)
    #expect(!pool.withdraw(ticket))
    gate.open()
  }

  private final class Owner: Sendable {}

  private final class Counts: Sendable {
    private let state = Mutex((now: 0, most: 0, runs: 0))
    var most: Int { state.withLock { $0.most } }
    var runs: Int { state.withLock { $0.runs } }

    func enter() {
      state.withLock {
        $0.now += 1
        $0.most = max($0.most, $0.now)
      }
    }

    func leave() {
      state.withLock {
        $0.now -= 1
        $0.runs += 1
      }
    }
  }

  /// `nil` for one that ended.
  private static func hasBegun<Value: Sendable>(_ outcome: BlockingThreadPool.Outcome<Value>) -> Bool? {
    guard case .expired(let hasBegun) = outcome else { return nil }
    return hasBegun
  }
}

/// Holds threads up until it is opened.
final class Gate: Sendable {
  private let semaphore = DispatchSemaphore(value: 0)

  func wait() {
    semaphore.wait()
    semaphore.signal()
  }

  func open() { semaphore.signal() }
}
