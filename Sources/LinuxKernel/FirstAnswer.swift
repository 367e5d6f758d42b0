import Dispatch
import Synchronization

/// Passes on the first of several answers; later ones are dropped.
///
/// Concurrency model: shared by whoever may answer, under its mutex.
package final class FirstAnswer<Value: Sendable>: Sendable {
  private let receiver: Mutex<(@Sendable (Value) -> Void)?>

  package init(_ receiver: @escaping @Sendable (Value) -> Void) { self.receiver = Mutex(receiver) }

  package convenience init(_ continuation: CheckedContinuation<Value, Never>) {
    self.init { continuation.resume(returning: $0) }
  }

  package func give(_ answer: Value) {
    let receiver = receiver.withLock { $0.take() }
    receiver?(answer)
  }

  /// Gives `answer` after `timeout`, unless another came first.
  package func give(_ answer: Value, after timeout: Duration) {
    whenStillWaiting(after: timeout) { self.give(answer) }
  }

  /// Runs `body` after `timeout`, unless an answer came first.
  package func whenStillWaiting(after timeout: Duration, _ body: @escaping @Sendable () -> Void) {
    DispatchQueue.global().asyncAfter(deadline: .now() + timeout.inSeconds) {
      if self.receiver.withLock({ $0 != nil }) { body() }
    }
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
