import CLinuxNBD
import Glibc
import Synchronization

/// What a descriptor can be waited for.
package enum Readiness: Sendable {
  /// There is something to read, or the peer has ended its side.
  case readable
  case writable
  /// The connection has come to its end: the peer has closed it or its side of it, it broke, or it was shut down here.
  /// Its data are never looked at, so that another, as the kernel's nbd driver, may read them.
  case ended
  /// The peer has closed the connection, not only its own side of it.
  case hungUp

  /// EPOLLHUP and EPOLLERR come unasked.
  fileprivate var events: UInt32 {
    switch self {
    case .readable: EPOLLIN.rawValue
    case .writable: EPOLLOUT.rawValue
    case .ended: EPOLLRDHUP.rawValue
    case .hungUp: 0
    }
  }
}

/// Tells when descriptors are ready.
///
/// Not by Dispatch: on Linux a source whose peer hangs up is unregistered by its own queue while Dispatch's manager
/// still looks at it, so that about one of 50,000 refused connections ends the process ("Source finalized twice", or a
/// freed pointer; libdispatch, event_epoll.c, _dispatch_event_merge_hangup). Nor can one wait for the end alone.
///
/// One thread waits in epoll_wait(2) for all of them. Concurrency model: `state` is shared by that thread and the
/// callers, under its mutex, and so is the poller's list, which always agrees with it; callbacks are called on that
/// thread and must not block.
package final class DescriptorWatcher: Sendable {
  package struct Token: Hashable, Sendable {
    fileprivate let id: UInt64
  }

  private struct Watch {
    let number: Int32
    let onReady: @Sendable () -> Void
  }

  private struct State {
    /// epoll's descriptor, for the rest of the process's life.
    var poller: Int32?
    var watches: [UInt64: Watch] = [:]
    var lastID: UInt64 = 0
  }

  private let state = Mutex(State())

  package static let shared = DescriptorWatcher()

  private init() {}

  /// Calls `onReady` once, also when the descriptor is ready already. It must stay open until then or until `unwatch`,
  /// and can be watched for one thing at a time (EEXIST). Throws what epoll_create1, epoll_ctl and pthread_create
  /// answer: ENOMEM, ENOSPC, EMFILE, EPERM for a file that is always ready.
  package func watch(
    _ number: Int32, for readiness: Readiness, onReady: @escaping @Sendable () -> Void
  ) throws(SystemCallError) -> Token {
    let result = state.withLock { state in
      Result { () throws(SystemCallError) in
        let poller = try poller(in: &state)
        let id = state.lastID + 1
        var event = epoll_event()
        event.events = readiness.events | EPOLLONESHOT.rawValue
        event.data.u64 = id
        guard epoll_ctl(poller, EPOLL_CTL_ADD, number, &event) == 0 else { throw lastError("epoll_ctl") }
        state.lastID = id
        state.watches[id] = Watch(number: number, onReady: onReady)
        return Token(id: id)
      }
    }
    return try result.get()
  }

  /// From now on the callback is not called any more, unless it runs at this moment, and the descriptor may be closed.
  package func unwatch(_ token: Token) {
    state.withLock { _ = DescriptorWatcher.remove(token.id, from: &$0) }
  }

  /// Whether the connection has come to its end, by a look at the socket alone.
  package static func hasEnded(_ number: Int32) -> Bool {
    var entry = pollfd(fd: number, events: Int16(K_POLLRDHUP), revents: 0)
    guard poll(&entry, 1, 0) > 0 else { return false }
    return Int32(entry.revents) & (K_POLLRDHUP | POLLHUP | POLLERR | POLLNVAL) != 0
  }

  private func poller(in state: inout State) throws(SystemCallError) -> Int32 {
    if let poller = state.poller { return poller }
    let poller = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard poller >= 0 else { throw lastError("epoll_create1") }
    do {
      try BlockingThread.start("watcher") { self.work(poller) }
    } catch {
      close(poller)
      throw error
    }
    state.poller = poller
    return poller
  }

  private static func remove(_ id: UInt64, from state: inout State) -> Watch? {
    guard let poller = state.poller, let watch = state.watches.removeValue(forKey: id) else { return nil }
    _ = epoll_ctl(poller, EPOLL_CTL_DEL, watch.number, nil)
    return watch
  }

  private func work(_ poller: Int32) {
    var events = [epoll_event](repeating: epoll_event(), count: 64)
    while true {
      let count = epoll_wait(poller, &events, Int32(events.count), -1)
      guard count >= 0 else { continue }
      for event in events.prefix(Int(count)) {
        // One that was unwatched in the meantime is not there any more; no number comes twice.
        let watch = state.withLock { DescriptorWatcher.remove(event.data.u64, from: &$0) }
        watch?.onReady()
      }
    }
  }
}
