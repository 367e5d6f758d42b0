package import Dispatch
package import LinuxKernel

/// The bounds of one attempt: its deadline and its cancellation, for everything in it that waits.
///
/// Concurrency model: an object of one serial queue; all calls, and all callbacks it makes, are on that queue.
package final class AttemptScope {
  /// Why an attempt ended from outside.
  package enum End: Error, Equatable, Sendable {
    case timedOut
    case cancelled
  }

  package let queue: DispatchQueue
  private var end: End?
  private var interrupt: (() -> Void)?
  private var timer: (any DispatchSourceTimer)?

  package init(queue: DispatchQueue) { self.queue = queue }

  deinit { timer?.cancel() }

  /// From now on, whatever waits in this scope ends with `timedOut` after this time; `nil` lifts the deadline.
  package func setDeadline(after duration: Duration?) {
    timer?.cancel()
    timer = nil
    guard let duration else { return }
    let timer = DispatchSource.makeTimerSource(queue: queue)
    timer.setEventHandler { [weak self] in self?.finish(.timedOut) }
    timer.schedule(deadline: .now() + duration.inSeconds, leeway: .milliseconds(10))
    timer.activate()
    self.timer = timer
  }

  /// Ends every wait, present and future.
  package func cancel() { finish(.cancelled) }

  /// Forgets a deadline that has passed, so that the next server gets one of its own. Cancellation stays.
  package func clearTimeout() {
    if end == .timedOut { end = nil }
  }

  package func check() throws(End) {
    if let end { throw end }
  }

  /// Waits for a callback: `begin` starts the work and gets a function that ends the wait (later calls of it do
  /// nothing); it returns how to interrupt the work, which must lead to that function being called.
  package nonisolated(nonsending) func wait<Value: Sendable>(
    _ begin: (_ finish: @escaping (Value?) -> Void) -> (() -> Void)
  ) async throws(End) -> Value {
    try check()
    let value: Value? = await withUnsafeContinuation { (continuation: UnsafeContinuation<Value?, Never>) in
      var waiting: UnsafeContinuation<Value?, Never>? = continuation
      let interrupt = begin { value in
        guard let resumed = waiting else { return }
        waiting = nil
        resumed.resume(returning: value)
      }
      if waiting != nil { self.interrupt = interrupt }
    }
    interrupt = nil
    try check()
    guard let value else { throw .cancelled }
    return value
  }

  /// Waits until `number` is ready. Nothing outlives the wait, so the descriptor may be closed at any other time.
  package nonisolated(nonsending) func waitUntil(_ readiness: Readiness, _ number: Int32) async throws(End) {
    _ = try await wait { finish in
      let wait = DescriptorWait(for: readiness, of: number, on: queue) { finish(true) }
      return {
        wait.cancel()
        finish(nil)
      }
    }
  }

  package nonisolated(nonsending) func sleep(_ duration: Duration) async throws(End) {
    _ = try await wait { finish in
      let timer = DispatchSource.makeTimerSource(queue: queue)
      timer.setEventHandler { timer.cancel() }
      timer.setCancelHandler { finish(true) }
      timer.schedule(deadline: .now() + duration.inSeconds)
      timer.activate()
      return { timer.cancel() }
    }
  }

  private func finish(_ end: End) {
    // A cancellation outlasts `clearTimeout`, so it also takes the place of a deadline that has just passed.
    guard self.end != .cancelled else { return }
    let isFirst = self.end == nil
    self.end = end
    if isFirst { interrupt?() }
  }
}
