import AttachmentModel
import Glibc
import LinuxKernel
import Synchronization

/// The server's thread, its sockets, and who waits for what happens.
final class ServerCore: Sendable {
  private struct Waiter {
    let number: Int
    let condition: @Sendable (Facts) -> Bool
    let continuation: CheckedContinuation<Bool, Never>
  }

  private struct Shared {
    var server: ServerState
    var listeners: [ServerListener] = []
    var waiters: [Waiter] = []
    var waiterCount = 0
    var hasEnded = false
  }

  /// What poll(2) is asked about.
  private enum Watched {
    case listener(OpenFile)
    case connection(Int, OpenFile)
  }

  private let shared: Mutex<Shared>
  /// A socket pair: a byte in it has the thread look at the state again.
  private let bell: (ring: OpenFile, heard: OpenFile)

  init(_ state: ServerState) throws(SystemCallError) {
    bell = try Self.socketPair()
    shared = Mutex(Shared(server: state))
  }

  func start() throws(SystemCallError) {
    try BlockingThread.start("forgetful") { self.run() }
  }

  /// Closes everything; the thread ends.
  func stop() {
    shared.withLock { shared in
      for number in shared.server.connections.keys { shared.server.close(number) }
      shared.listeners = []
      shared.hasEnded = true
      for waiter in shared.waiters { waiter.continuation.resume(returning: false) }
      shared.waiters = []
    }
    ring()
  }

  /// What changes the state from outside.
  func locked<Result>(_ body: (inout ServerState) -> Result) -> Result {
    defer { ring() }
    return shared.withLock { shared in
      defer { Self.settle(&shared) }
      return body(&shared.server)
    }
  }

  // MARK: Ways in

  func listen(_ address: ServerAddress) throws -> ServerURI {
    defer { ring() }
    return try shared.withLock { shared in
      let listener = try ServerListener(address)
      shared.listeners.append(listener)
      return ServerURI(address: listener.address)
    }
  }

  func connect(handshake: Bool) throws(SystemCallError) -> OpenFile {
    let (server, client) = try Self.socketPair()
    let isAccepted = locked { state in
      if !state.isDown { state.add(server, inTransmission: !handshake) }
      return !state.isDown
    }
    guard isAccepted else { throw SystemCallError("connect", ECONNREFUSED) }
    return client
  }

  func restart() throws(SystemCallError) {
    defer { ring() }
    try shared.withLock { shared throws(SystemCallError) in
      for index in shared.listeners.indices { try shared.listeners[index].open() }
      shared.server.isDown = false
    }
  }

  // MARK: Waiting

  func wait(until condition: @escaping @Sendable (Facts) -> Bool) async throws(CancellationError) {
    let number = shared.withLock { shared in
      shared.waiterCount += 1
      return shared.waiterCount
    }
    let holds = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        shared.withLock { shared in
          if condition(shared.server.facts) {
            continuation.resume(returning: true)
          } else if shared.hasEnded || Task.isCancelled {
            continuation.resume(returning: false)
          } else {
            shared.waiters.append(Waiter(number: number, condition: condition, continuation: continuation))
          }
        }
      }
    } onCancel: {
      shared.withLock { shared in
        guard let index = shared.waiters.firstIndex(where: { $0.number == number }) else { return }
        shared.waiters.remove(at: index).continuation.resume(returning: false)
      }
    }
    guard holds else { throw CancellationError() }
  }

  // MARK: The thread

  private func run() {
    while let (watched, isBusy) = shared.withLock({ Self.watched($0) }) {
      var polled = [pollfd(fd: bell.heard.number, events: Int16(POLLIN), revents: 0)] + watched.map(\.polled)
      _ = poll(&polled, nfds_t(polled.count), isBusy ? 0 : -1)
      if polled[0].revents != 0 {
        var bytes = [UInt8](repeating: 0, count: 256)
        _ = read(bell.heard.number, &bytes, bytes.count)
      }
      let ready = zip(watched.map(\.target), polled.dropFirst()).filter { $0.1.revents != 0 }
      shared.withLock { shared in
        for (target, poll) in ready {
          switch target {
          case .listener(let file): Self.accept(file, &shared)
          case .connection(let number, let file):
            guard shared.server.connections[number]?.socket === file else { continue }
            if poll.revents & Int16(POLLOUT) != 0 { shared.server.connections[number]?.flushOutput() }
            if poll.events & Int16(POLLIN) != 0, poll.revents & ~Int16(POLLOUT) != 0 { shared.server.read(number) }
          }
        }
        shared.server.work()
        Self.settle(&shared)
      }
    }
  }

  /// What to wait for, and whether there is work without waiting; `nil` when the server has ended.
  private static func watched(_ shared: Shared) -> ([(target: Watched, polled: pollfd)], isBusy: Bool)? {
    guard !shared.hasEnded else { return nil }
    var watched: [(target: Watched, polled: pollfd)] = []
    for listener in shared.listeners {
      guard let socket = listener.socket else { continue }
      watched.append((.listener(socket), pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)))
    }
    for (number, connection) in shared.server.connections.sorted(by: { $0.key < $1.key }) {
      let events = (connection.isHalfClosed ? 0 : POLLIN) | (connection.hasOutput ? POLLOUT : 0)
      // A connection whose client is gone would be ready for ever.
      guard events != 0 else { continue }
      let polled = pollfd(fd: connection.socket.number, events: Int16(events), revents: 0)
      watched.append((.connection(number, connection.socket), polled))
    }
    return (watched, !shared.server.pending.isEmpty)
  }

  private static func accept(_ file: OpenFile, _ shared: inout Shared) {
    while !shared.server.isDown {
      guard let socket = ServerListener.accept(file.number) else { return }
      shared.server.add(socket, inTransmission: false)
    }
  }

  /// After any change: what follows from it, and who waited for it.
  private static func settle(_ shared: inout Shared) {
    shared.server.finishHalfClosed()
    if shared.server.isDown {
      for index in shared.listeners.indices { shared.listeners[index].close() }
    }
    let facts = shared.server.facts
    shared.waiters.removeAll { waiter in
      guard waiter.condition(facts) else { return false }
      waiter.continuation.resume(returning: true)
      return true
    }
  }

  /// One that is not taken because the pair is full is not needed either.
  private func ring() {
    var byte: UInt8 = 1
    _ = write(bell.ring.number, &byte, 1)
  }

  private static func socketPair() throws(SystemCallError) -> (OpenFile, OpenFile) {
    var numbers: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &numbers) == 0 else { throw SystemCallError("socketpair", errno) }
    return (OpenFile(FileDescriptor(owning: numbers[0])), OpenFile(FileDescriptor(owning: numbers[1])))
  }
}
