import CLinuxNBD
import Dispatch
import Glibc
import Synchronization

/// What the nbd driver announces by itself. Announcements can be lost, and some deaths are never announced: whoever
/// listens must look at its devices also by other means, at the latest when told so here.
///
/// Concurrency model: the socket is read on a serial queue of its own, where nothing blocks; joining a group can hang in
/// the kernel, so that is done on a thread of the pool. `state` is shared by these two and the owner, under its mutex;
/// the callback is called on the queue, outside the mutex.
package final class NBDNetlinkEvents: Sendable {
  package enum Event: Equatable, Sendable {
    /// From here on announcements arrive; what came before is lost.
    case subscribed
    /// The driver is not there, or no longer. It is subscribed to as soon as it is loaded.
    case absent
    /// A link of the device died. Once for each link; not after a disconnect, and not for a server that hangs.
    case linkDead(index: Int)
    /// More came than the socket could hold: some announcements are lost.
    case overrun
    /// Nothing comes any more: the last event.
    case ended(NetlinkError)
  }

  private enum State {
    /// A thread makes the socket. Can become: `listening`, `ended`.
    case starting
    /// The reader runs. `isJoining`: a thread looks the family up; `isStale`: it must do so again. Can
    /// become: `ended`.
    case listening(NetlinkReader, Listening)
    case ended
  }

  /// The driver's family, as far as it is known.
  private enum Family: Equatable {
    case unknown, absent
    case joined(UInt16)
  }

  private struct Listening {
    var family = Family.unknown
    var isJoining = false
    var isStale = false
  }

  private let queue = DispatchQueue(label: "nbd-events", target: .global())
  private let pool: BlockingThreadPool
  private let limit: Duration
  private let bufferSize: Int32
  private let familyName: String
  private let groupName: String
  private let onEvent: @Sendable (Event) -> Void
  private let state = Mutex(State.starting)

  /// Datagrams that are read before others of the process's queues get their turn.
  private static let batch = 256

  /// Starts to listen. `limit` is how long the kernel may take to let it join; the callback holds no lock.
  package convenience init(within limit: Duration, onEvent: @escaping @Sendable (Event) -> Void) {
    // Thousands of links lost at once: less than 1 KiB each, as the kernel counts (netlink_trim).
    self.init(
      family: NBD_GENL_FAMILY_NAME, group: NBD_GENL_MCAST_GROUP_NAME, bufferSize: 4 << 20, pool: NBDNetlink.pool,
      within: limit, onEvent: onEvent)
  }

  /// Listens to another family's group, with a buffer of so many bytes.
  package init(
    family: String, group: String, bufferSize: Int32, pool: BlockingThreadPool, within limit: Duration,
    onEvent: @escaping @Sendable (Event) -> Void
  ) {
    familyName = family
    groupName = group
    self.bufferSize = bufferSize
    self.pool = pool
    self.limit = limit
    self.onEvent = onEvent
    start()
  }

  deinit { stop() }

  /// Nothing is told any more, except what is being told at this moment.
  package func stop() {
    let reader = state.withLock { state -> NetlinkReader? in
      defer { state = .ended }
      guard case .listening(let reader, _) = state else { return nil }
      return reader
    }
    reader?.stop()
  }
}

// MARK: Joining

extension NBDNetlinkEvents {
  /// What a thread found when it looked for the family.
  private typealias Joined = Result<Family, NetlinkError>

  private func start() {
    let bufferSize = bufferSize
    run { () throws(NetlinkError) -> NetlinkSocket in
      do throws(SystemCallError) {
        let socket = try NetlinkSocket.forEvents(bufferSize: bufferSize)
        // First the controller's group, then the look-up: a driver that is loaded between the two is announced.
        try socket.join(group: UInt32(GenericNetlinkFamily.controller))
        return socket
      } catch { throw NetlinkError(error) }
    } completion: { events, result in
      switch result {
      case .success(let socket): events.listen(to: socket)
      case .failure(let error): events.end(error)
      }
    }
  }

  private func listen(to socket: NetlinkSocket) {
    let reader = NetlinkReader(socket, on: queue) { [weak self] in self?.read(socket) }
    let isWanted = state.withLock { state in
      guard case .starting = state else { return false }
      state = .listening(reader, Listening())
      return true
    }
    reader.start()
    if isWanted { join() } else { reader.stop() }
  }

  /// Looks the family up, and joins its group if its id is new.
  private func join() {
    let work = state.withLock { state -> (NetlinkSocket, known: Family)? in
      guard case .listening(let reader, var listening) = state else { return nil }
      defer { state = .listening(reader, listening) }
      listening.isStale = listening.isJoining
      guard !listening.isJoining else { return nil }
      listening.isJoining = true
      return (reader.socket, listening.family)
    }
    guard let (socket, known) = work else { return }
    let (familyName, groupName) = (familyName, groupName)
    run { () throws(NetlinkError) -> Family in
      let family: GenericNetlinkFamily
      do throws(NetlinkError) {
        var line = try NetlinkLine { () throws(SystemCallError) in try NetlinkSocket.forRequests() }
        family = try line.family(familyName)
      } catch {
        guard case .unavailable = error else { throw error }
        return .absent
      }
      if .joined(family.id) != known {
        guard let group = family.groups[groupName] else { throw .malformed("\(familyName) without \(groupName)") }
        do throws(SystemCallError) { try socket.join(group: group) } catch {
          // Unloaded between the two: it is announced again when it comes back.
          guard error.code == ENOENT || error.code == EINVAL else { throw NetlinkError(error) }
          return .absent
        }
      }
      return .joined(family.id)
    } completion: { events, result in
      events.joined(result)
    }
  }

  private func joined(_ result: Joined) {
    let family: Family
    switch result {
    case .success(let found): family = found
    case .failure(let error): return end(error)
    }
    let outcome = state.withLock { state -> (isNews: Bool, isStale: Bool)? in
      guard case .listening(let reader, let listening) = state else { return nil }
      let outcome = (isNews: family != listening.family, isStale: listening.isStale)
      // The driver may have come or gone meanwhile, and a membership with it.
      state = .listening(reader, Listening(family: outcome.isStale ? .unknown : family))
      return outcome
    }
    switch outcome {
    case (_, isStale: true)?: join()
    case (isNews: true, _)?: onEvent(family == .absent ? .absent : .subscribed)
    case (isNews: false, _)?, nil: return
    }
  }

  /// Runs `body` on a thread of the pool and `completion` on the queue, if there still is anybody to tell.
  private func run<Value: Sendable>(
    _ body: @escaping @Sendable () throws(NetlinkError) -> Value,
    completion: @escaping @Sendable (NBDNetlinkEvents, Result<Value, NetlinkError>) -> Void
  ) {
    let queue = queue
    pool.run(within: limit) {
      Result { () throws(NetlinkError) in try body() }
    } completion: { [weak self] outcome in
      let result: Result<Value, NetlinkError> =
        switch outcome {
        case .ended(let result): result
        case .expired(let hasBegun): .failure(.timedOut(call: "NETLINK_ADD_MEMBERSHIP", hasBegun: hasBegun))
        case .refused(let error): .failure(NetlinkError(error))
        }
      queue.async { [weak self] in
        if let self { completion(self, result) }
      }
    }
  }

  private func end(_ error: NetlinkError) {
    let wasEnded = state.withLock { state in
      guard case .ended = state else { return false }
      return true
    }
    stop()
    if !wasEnded { onEvent(.ended(error)) }
  }
}

// MARK: Reading

extension NBDNetlinkEvents {
  /// On the queue. The reader calls again for what a batch leaves.
  private func read(_ socket: NetlinkSocket) {
    for _ in 0..<NBDNetlinkEvents.batch {
      do {
        guard let datagram = try socket.receive() else { continue }
        for message in try NetlinkMessage.parse(datagram) { try take(message) }
      } catch let error as SystemCallError {
        switch error.code {
        case EAGAIN: return
        case ENOBUFS:
          onEvent(.overrun)
          // What was lost may be that the driver came or went.
          join()
        default: return end(NetlinkError(error))
        }
      } catch let error as NetlinkError {
        return end(error)
      } catch {
        return
      }
    }
  }

  private func take(_ message: NetlinkMessage) throws(NetlinkError) {
    switch try GenericNetlinkFamily.announcement(in: message) {
    case .present(let family):
      if family.name == familyName { join() }
    case .removed(let name):
      if name == familyName, leave() { onEvent(.absent) }
    case nil:
      guard isJoined(message.type) else { return }
      if let index = try NBDReply.deadLinkIndex(in: try GenericNetlinkMessage(message)) {
        onEvent(.linkDead(index: index))
      }
    }
  }

  /// The driver has gone, and its group with it, whatever id it comes back with: whether that is news. It is not looked
  /// up: that would make the kernel load it again, against the will of whoever removed it.
  private func leave() -> Bool {
    state.withLock { state in
      guard case .listening(let reader, var listening) = state else { return false }
      defer { state = .listening(reader, listening) }
      // What a thread finds at this moment is out of date.
      listening.isStale = listening.isJoining
      guard listening.family != .absent, !listening.isJoining else { return false }
      listening.family = .absent
      return true
    }
  }

  private func isJoined(_ family: UInt16) -> Bool {
    state.withLock { state in
      guard case .listening(_, let listening) = state else { return false }
      return listening.family == .joined(family)
    }
  }
}
