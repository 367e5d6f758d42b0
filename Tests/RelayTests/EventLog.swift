import Synchronization

@testable import Relay

/// The events of a relay, for tests that wait for one.
///
/// Concurrency model: filled by the relay's thread, asked by a test, under the mutex.
final class EventLog: Sendable {
  private struct State {
    var all: [RelayEvent] = []
    var waiter: (condition: @Sendable ([RelayEvent]) -> Bool, CheckedContinuation<Void, Never>)?
  }

  private let state = Mutex(State())

  var all: [RelayEvent] { state.withLock { $0.all } }

  func append(_ event: RelayEvent) {
    let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
      state.all.append(event)
      guard let (condition, waiter) = state.waiter, condition(state.all) else { return nil }
      state.waiter = nil
      return waiter
    }
    waiter?.resume()
  }

  /// Returns when the condition holds for all events so far. One caller at a time.
  func wait(until condition: @escaping @Sendable ([RelayEvent]) -> Bool) async {
    await withCheckedContinuation { continuation in
      let isTrue = state.withLock { state in
        if condition(state.all) { return true }
        state.waiter = (condition, continuation)
        return false
      }
      if isTrue { continuation.resume() }
    }
  }

  /// Returns when as many links have been lost.
  func waitForLosses(_ count: Int) async { await wait { $0.losses.count >= count } }
}

extension [RelayEvent] {
  var losses: [RelayEvent.Loss] {
    compactMap { if case .linkLost(_, let loss, _) = $0 { loss } else { nil } }
  }
}
