import Dispatch
import Synchronization

/// Resumes a continuation with the first of several answers; later ones are dropped.
///
/// Concurrency model: shared by whoever may answer, under its mutex.
package final class FirstAnswer<Value: Sendable>: Sendable {
  private let waiting: Mutex<CheckedContinuation<Value, Never>?>

  package init(_ continuation: CheckedContinuation<Value, Never>) { waiting = Mutex(continuation) }

  package func give(_ answer: Value) {
    let continuation = waiting.withLock { $0.take() }
    continuation?.resume(returning: answer)
  }

  /// Gives `answer` after `timeout`, unless another came first.
  package func give(_ answer: Value, after timeout: Duration) {
    DispatchQueue.global().asyncAfter(deadline: .now() + timeout.inSeconds) { self.give(answer) }
  }
}

extension BlockingThread {
  /// Runs `body` on a thread of its own and waits for it no longer than `timeout`; whether it has ended by then. It
  /// goes on where it has not.
  package static func run(
    _ name: String, within timeout: Duration, _ body: @escaping @Sendable () -> Void
  ) async -> Bool {
    await withCheckedContinuation { continuation in
      let answer = FirstAnswer(continuation)
      do {
        try start(name) {
          body()
          answer.give(true)
        }
        answer.give(false, after: timeout)
      } catch {
        answer.give(false)
      }
    }
  }
}
