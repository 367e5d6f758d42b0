import Synchronization

/// A bounded number of threads for calls that block; the rest wait their turn, in order.
///
/// A thread ends when nothing waits. One that never comes back from its call costs its place for ever: what waits can
/// be withdrawn, and nothing grows. Concurrency model: `state` is shared by the callers and the threads, under its
/// mutex; work is run on a thread of the pool, and refusals on the submitter's, both outside the mutex.
package final class BlockingThreadPool: Sendable {
  /// Names a piece of work that was submitted.
  package struct Ticket: Equatable, Sendable {
    fileprivate let number: UInt64
  }

  private struct Work: Sendable {
    let ticket: Ticket
    let body: @Sendable () -> Void
    let refusal: @Sendable (SystemCallError) -> Void
  }

  private struct State {
    var queue: [Work] = []
    var running = 0
    var submitted: UInt64 = 0
  }

  private let name: String
  private let threads: Int
  private let state = Mutex(State())

  /// `name` is that of the threads, cut to 15 bytes; `threads` how many calls may block at the same time, at least 1.
  package init(name: String, threads: Int) {
    self.name = name
    self.threads = max(1, threads)
  }

  /// Runs `body` on a thread as soon as one is free; `refusal` is called instead when none could be started.
  @discardableResult
  package func submit(
    _ body: @escaping @Sendable () -> Void, refusal: @escaping @Sendable (SystemCallError) -> Void
  ) -> Ticket {
    let (ticket, mustStart) = state.withLock { state in
      state.submitted += 1
      let ticket = Ticket(number: state.submitted)
      state.queue.append(Work(ticket: ticket, body: body, refusal: refusal))
      guard state.running < threads else { return (ticket, false) }
      state.running += 1
      return (ticket, true)
    }
    if mustStart {
      do { try BlockingThread.start(name) { self.work() } } catch { refuseAll(error) }
    }
    return ticket
  }

  /// Takes back what still waits for its turn: whether it did. `false`: it runs, or has run.
  package func withdraw(_ ticket: Ticket) -> Bool {
    // What was withdrawn is let go of outside the mutex: it may own files.
    let withdrawn = state.withLock { state -> Work? in
      guard let place = state.queue.firstIndex(where: { $0.ticket == ticket }) else { return nil }
      return state.queue.remove(at: place)
    }
    return withdrawn != nil
  }

  private func work() {
    while true {
      let next = state.withLock { state -> Work? in
        guard !state.queue.isEmpty else {
          state.running -= 1
          return nil
        }
        return state.queue.removeFirst()
      }
      guard let next else { return }
      next.body()
    }
  }

  /// No thread could be started: with none at all, nobody would ever take what waits.
  private func refuseAll(_ error: SystemCallError) {
    let orphans = state.withLock { state in
      state.running -= 1
      guard state.running == 0 else { return [Work]() }
      defer { state.queue = [] }
      return state.queue
    }
    for orphan in orphans { orphan.refusal(error) }
  }
}

extension BlockingThreadPool {
  /// What became of a call that was given a deadline.
  package enum Outcome<Value: Sendable>: Sendable {
    case ended(Value)
    /// The deadline passed. `hasBegun`: its thread is left to it, and it may yet take effect; else it never will.
    case expired(hasBegun: Bool)
    /// No thread could be started.
    case refused(SystemCallError)
  }

  /// Runs `body` on a thread of the pool and waits no longer than `limit`, the wait for a free thread included.
  package func run<Value: Sendable>(
    within limit: Duration, _ body: @escaping @Sendable () -> Value
  ) async -> Outcome<Value> {
    await withCheckedContinuation { continuation in
      run(within: limit, body) { continuation.resume(returning: $0) }
    }
  }

  /// The same with a callback, which is called exactly once, on any thread.
  package func run<Value: Sendable>(
    within limit: Duration, _ body: @escaping @Sendable () -> Value,
    completion: @escaping @Sendable (Outcome<Value>) -> Void
  ) {
    let answer = FirstAnswer(completion)
    let ticket = submit({ answer.give(.ended(body())) }, refusal: { answer.give(.refused($0)) })
    answer.whenStillWaiting(after: limit) {
      answer.give(.expired(hasBegun: !self.withdraw(ticket)))
    }
  }
}
