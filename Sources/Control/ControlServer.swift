import Dispatch
import Glibc
import LinuxKernel

/// Answers Varlink calls on a Unix socket: the daemon's side of `nbdattach status`, `start` and so on.
///
/// *Concurrency*: everything runs on one serial queue, which nothing blocks; only the answer itself is made elsewhere,
/// by a task for each call. Every client is bounded by `ControlLimits` in length, number and time.
package actor ControlServer {
  /// Where the daemon listens and the command asks.
  package static let standardPath = "/run/nbdattach/control"
  /// Who may ask, besides root.
  package static let standardGroup = "nbdattach"

  private let executor = QueueExecutor(label: "nbdattach.control")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let path: String
  private let group: String?
  private let limits: ControlLimits
  private let service: ControlService
  private var listener: Listener?
  private var connections: [UInt64: ControlConnection] = [:]
  private var lastID: UInt64 = 0

  private struct Listener {
    let socket: ListeningSocket
    var wait: DescriptorWait?
  }

  /// `status` and `actions` are asked for each call, and for several at once.
  package init(
    path: String = ControlServer.standardPath, group: String? = ControlServer.standardGroup,
    limits: ControlLimits = ControlLimits(), actions: ControlActions = ControlActions(),
    status: @escaping @Sendable () async -> StatusSnapshot
  ) {
    self.path = path
    self.group = group
    self.limits = limits
    service = ControlService(status: status, actions: actions)
  }

  /// Begins to listen. A server that has begun must be stopped before it is let go.
  package func start() throws(ControlError) {
    if listener != nil { return }
    listener = Listener(socket: try ListeningSocket(path: path, group: group))
    awaitClients()
  }

  private func awaitClients() {
    guard let socket = listener?.socket else { return }
    listener?.wait = DescriptorWait(for: .readable, of: socket.fd, on: executor.queue) { [weak self] in
      self?.assumeIsolated { $0.accept() }
    }
  }

  /// Ends every connection, and returns when every descriptor is closed and the socket's name is gone.
  package func stop() {
    if let listener {
      listener.socket.removeName()
      listener.wait?.cancel()
      Glibc.close(listener.socket.fd)
    }
    listener = nil
    for id in connections.keys { close(id) }
  }

  private func accept() {
    guard let listener else { return }
    var hasDescriptors = true
    defer { if hasDescriptors { awaitClients() } else { pause() } }
    // Bounded, so that a storm of clients does not keep the others waiting.
    for _ in 0..<64 {
      // Nothing here starts programs, so the moment before the flags are set is harmless.
      let fd = Glibc.accept(listener.socket.fd, nil, nil)
      if fd < 0 {
        hasDescriptors = errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM
        return
      }
      guard let user = ControlServer.prepare(fd),
        limits.admit(user: user, others: connections.values.lazy.map(\.user))
      else {
        Glibc.close(fd)
        continue
      }
      add(fd, user: user)
    }
  }

  /// Without a descriptor to accept with, the listener would stay ready and be tried for ever.
  private func pause() {
    listener?.wait = nil
    executor.queue.asyncAfter(deadline: .now() + .milliseconds(200)) { [weak self] in
      self?.assumeIsolated { $0.resume() }
    }
  }

  private func resume() {
    // Another listener may have come since, which has a wait of its own.
    if listener?.wait == nil { awaitClients() }
  }

  /// Who is at the other end; `nil`: the kernel does not say, or the socket can't be made not to block.
  private static func prepare(_ fd: Int32) -> UInt32? {
    if fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, O_NONBLOCK) != 0 { return nil }
    // struct ucred: pid, uid, gid.
    var credentials: InlineArray<3, Int32> = [0, 0, 0]
    var length = socklen_t(MemoryLayout.size(ofValue: credentials))
    if getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 { return nil }
    return UInt32(bitPattern: credentials[1])
  }

  private func add(_ fd: Int32, user: UInt32) {
    lastID += 1
    let id = lastID
    let wake = ControlConnection.Wake(
      ready: { [weak self] in self?.assumeIsolated { $0.ready(id) } },
      expired: { [weak self] in self?.assumeIsolated { $0.close(id) } })
    let connection = ControlConnection(
      fd: fd, user: user, callLength: limits.callLength, queue: executor.queue, wake: wake)
    connections[id] = connection
    connection.expire(in: limits.idle)
    receive(id, connection)
  }

  private func close(_ id: UInt64) {
    connections.removeValue(forKey: id)?.close()
  }

  private func ready(_ id: UInt64) {
    guard let connection = connections[id] else { return }
    connection.disarm()
    switch connection.phase {
    case .receiving: receive(id, connection)
    // Nobody takes the answer.
    case .answering: close(id)
    case .sending: send(id, connection)
    }
  }

  /// Goes on until there is a call, or nothing more to read.
  private func receive(_ id: UInt64, _ connection: ControlConnection) {
    while true {
      switch connection.input.next() {
      case .message(let message): return take(message, from: id, connection)
      case .tooLong: return close(id)
      case .incomplete: break
      }
      let wasPartial = connection.input.isPartial
      switch connection.receive() {
      case .done:
        if !wasPartial { connection.expire(in: limits.receiving) }
      case .blocked: return connection.arm(.readable)
      case .ended: return close(id)
      }
    }
  }

  private func take(_ message: [UInt8], from id: UInt64, _ connection: ControlConnection) {
    guard let call = VarlinkCall(message) else { return close(id) }
    connection.phase = .answering
    connection.expire(in: ControlService.isBounded(call) ? limits.answering : nil)
    let mayChange = connection.user == limits.privilegedUser
    connection.answering = Task { [service] in
      let reply = await service.reply(to: call, mayChange: mayChange)
      answer(id, call.isOneway ? [] : reply.message + [0])
    }
    // Its next call waits in the socket, and one that has only closed its own side still takes the answer.
    if !call.isOneway { connection.arm(.hungUp) }
  }

  private func answer(_ id: UInt64, _ bytes: [UInt8]) {
    guard let connection = connections[id] else { return }
    connection.disarm()
    connection.answering = nil
    connection.phase = .sending
    connection.setOutput(bytes)
    connection.expire(in: limits.sending)
    send(id, connection)
  }

  private func send(_ id: UInt64, _ connection: ControlConnection) {
    switch connection.send() {
    case .blocked: connection.arm(.writable)
    case .ended: close(id)
    case .done:
      connection.phase = .receiving
      connection.expire(in: connection.input.isPartial ? limits.receiving : limits.idle)
      receive(id, connection)
    }
  }
}
