package import Dispatch

/// One wait for a descriptor, whose end is told on a queue.
///
/// Unchecked: it is made, ended and cancelled on its serial queue alone, and what it calls is touched there only.
package final class DescriptorWait: @unchecked Sendable {
  /// How soon a descriptor that can't be watched, for want of memory, is called ready: whoever waits then looks itself.
  private static let blindInterval: DispatchTimeInterval = .milliseconds(100)

  private let queue: DispatchQueue
  private var onReady: (() -> Void)?
  private var token: DescriptorWatcher.Token?

  /// Calls `onReady` once on `queue`, which is the caller's, when the descriptor is ready: never before this returns, and
  /// not after `cancel`. The descriptor stays open until one of them; the wait keeps itself until then.
  package init(
    for readiness: Readiness, of number: Int32, on queue: DispatchQueue, _ onReady: @escaping () -> Void
  ) {
    self.queue = queue
    self.onReady = onReady
    do {
      token = try DescriptorWatcher.shared.watch(number, for: readiness) { queue.async { self.end() } }
    } catch {
      queue.asyncAfter(deadline: .now() + DescriptorWait.blindInterval) { self.end() }
    }
  }

  /// The descriptor may be closed afterwards.
  package func cancel() {
    onReady = nil
    if let token { DescriptorWatcher.shared.unwatch(token) }
  }

  private func end() {
    let body = onReady
    onReady = nil
    body?()
  }
}
