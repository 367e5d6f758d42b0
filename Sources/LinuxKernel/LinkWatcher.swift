import CLinuxNBD
import Glibc
import Synchronization

/// Tells when connected sockets come to their end, without ever looking at their data: the kernel's nbd driver reads
/// them, so that readability means nothing here, and a Dispatch source can't wait for the end alone.
///
/// One thread waits in epoll_wait(2) for all of them. Concurrency model: `callbacks` is shared by that thread and the
/// callers, under its mutex; callbacks are called on that thread and must not block.
package final class LinkWatcher: Sendable {
  package struct Token: Hashable, Sendable {
    fileprivate let id: UInt64
    fileprivate let number: Int32
  }

  private struct State {
    var callbacks: [UInt64: @Sendable () -> Void] = [:]
    var lastID: UInt64 = 0
  }

  private let state = Mutex(State())
  /// Never closed: the watcher lives as long as the process.
  private let poller: Int32

  package static let shared = LinkWatcher()

  private init() {
    poller = epoll_create1(Int32(EPOLL_CLOEXEC))
  }

  /// Calls `onEnd` once when the peer has closed, the connection broke, or either side was shut down; also when that
  /// had happened before. The descriptor must stay open until then or until `unwatch`.
  package func watch(_ number: Int32, onEnd: @escaping @Sendable () -> Void) throws(SystemCallError) -> Token {
    let (id, isFirst) = state.withLock { state in
      state.lastID += 1
      state.callbacks[state.lastID] = onEnd
      return (state.lastID, state.lastID == 1)
    }
    if isFirst { try BlockingThread.start("link-watcher") { self.work() } }
    var event = epoll_event()
    // EPOLLHUP and EPOLLERR come unasked. One shot: an end is told once.
    event.events = EPOLLRDHUP.rawValue | EPOLLONESHOT.rawValue
    event.data.u64 = id
    guard epoll_ctl(poller, EPOLL_CTL_ADD, number, &event) == 0 else {
      let error = lastError("epoll_ctl")
      state.withLock { $0.callbacks[id] = nil }
      throw error
    }
    return Token(id: id, number: number)
  }

  /// From now on the callback is not called any more, unless it runs at this moment.
  package func unwatch(_ token: Token) {
    state.withLock { $0.callbacks[token.id] = nil }
    _ = epoll_ctl(poller, EPOLL_CTL_DEL, token.number, nil)
  }

  /// Whether the connection has come to its end, by a look at the socket alone.
  package static func hasEnded(_ number: Int32) -> Bool {
    var entry = pollfd(fd: number, events: Int16(K_POLLRDHUP), revents: 0)
    guard poll(&entry, 1, 0) > 0 else { return false }
    return Int32(entry.revents) & (K_POLLRDHUP | POLLHUP | POLLERR | POLLNVAL) != 0
  }

  private func work() {
    var events = [epoll_event](repeating: epoll_event(), count: 64)
    while true {
      let count = epoll_wait(poller, &events, Int32(events.count), -1)
      guard count >= 0 else { continue }
      for event in events.prefix(Int(count)) {
        let callback = state.withLock { $0.callbacks.removeValue(forKey: event.data.u64) }
        callback?()
      }
    }
  }
}
