import LinuxKernel
import Synchronization
package import Systemd

/// A log that never makes its caller wait: entries go on to another one from a thread of their own, in order.
///
/// journald takes no more while it waits for its disk, which may be one of our devices: whoever waited for it then could
/// never bring that device back. Concurrency model: `state` is shared by the callers and the one thread, under its mutex;
/// the other log is called on the thread alone, outside the mutex. The thread ends when there is nothing left to say.
package final class BackgroundLog: Sendable {
  private struct State {
    var backlog: [JournalEntry] = []
    /// What came while the backlog was full.
    var dropped = 0
    /// There is a thread, which will look at the backlog again.
    var isWriting = false
    /// Who waits until everything is written.
    var waiters: [FirstAnswer<Bool>] = []

    var isEmpty: Bool { backlog.isEmpty && dropped == 0 }
  }

  private let sink: Log
  private let limit: Int
  private let state = Mutex(State())

  /// `limit` is how many entries are kept beside those that are being written; more are counted and dropped.
  package init(_ sink: Log, limit: Int = 4096) {
    self.sink = sink
    self.limit = max(1, limit)
  }

  /// What the rest of the program logs to.
  package var log: Log { Log { self.take($0) } }

  /// Waits until everything logged so far is written, but no longer than `timeout`; whether it is.
  @discardableResult
  package func flush(within timeout: Duration) async -> Bool {
    await withCheckedContinuation { continuation in
      let answer = FirstAnswer<Bool>(continuation)
      state.withLock { $0.waiters.append(answer) }
      answer.give(false, after: timeout)
      startWriting()
    }
  }

  private func take(_ entry: JournalEntry) {
    state.withLock { state in
      if state.backlog.count < limit { state.backlog.append(entry) } else { state.dropped += 1 }
    }
    startWriting()
  }

  /// Without a thread to be had the backlog stays, and the next entry tries again.
  private func startWriting() {
    let mustStart = state.withLock { state in
      guard !state.isWriting else { return false }
      state.isWriting = true
      return true
    }
    guard mustStart else { return }
    do { try BlockingThread.start("nbd-log") { self.write() } } catch {
      state.withLock { $0.isWriting = false }
    }
  }

  private func write() {
    while let entries = next() {
      for entry in entries { sink(entry) }
    }
  }

  /// All that waits, for a moment when nothing is being written; `nil` when that is nothing.
  private func next() -> [JournalEntry]? {
    let (entries, waiters) = state.withLock { state -> ([JournalEntry]?, [FirstAnswer<Bool>]) in
      guard !state.isEmpty else {
        state.isWriting = false
        defer { state.waiters = [] }
        return (nil, state.waiters)
      }
      var entries = state.backlog
      // The backlog has been full ever since the first of them, so that they belong after its last.
      if state.dropped > 0 {
        let what = state.dropped == 1 ? "1 entry was" : "\(state.dropped) entries were"
        entries.append(JournalEntry(.warning, "\(what) dropped while the log took none"))
      }
      state.backlog = []
      state.dropped = 0
      return (entries, [])
    }
    for waiter in waiters { waiter.give(true) }
    return entries
  }
}
