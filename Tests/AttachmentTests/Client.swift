import AttachmentModel
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

/// What a worker does with a connector, without a worker.
actor Client {
  private nonisolated let executor = QueueExecutor(label: "client")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private(set) var steps: [String] = []

  /// Generous, because other tests run beside this one; where a deadline is to pass it is given.
  func link(
    _ server: ServerURI, tls: TLSSpec? = nil, timeout: Duration = .seconds(30)
  ) async throws(Failure) -> Link {
    let connector = Connector(server: server, tls: tls, scope: AttemptScope(queue: executor.queue)) { [self] step in
      assumeIsolated { $0.steps.append(step) }
    }
    return try await connector.link(timeout: timeout)
  }

  /// Connects to the first of the addresses that answers.
  func race(_ addresses: [SocketAddress]) async throws -> ConnectionRace.Outcome {
    let scope = AttemptScope(queue: executor.queue)
    scope.setDeadline(after: .seconds(30))
    return try await ConnectionRace.run(addresses, scope: scope)
  }

  /// Reads as the kernel would, with the codec.
  func read(_ link: Link, offset: UInt64, length: UInt32, cookie: UInt64 = 0x0123_4567_89ab_cdef) async throws
    -> [UInt8]
  {
    let stream = ByteStream(link.socket, tls: link.tls, scope: AttemptScope(queue: executor.queue))
    try await stream.write(Request(.read, cookie: cookie, offset: offset, length: length).bytes)
    let header = try await stream.read(exactly: SimpleReply.byteCount)
    let reply = try SimpleReply(reading: header.span.bytes)
    #expect(reply.cookie == cookie)
    try #require(reply.error == nil)
    return try await stream.read(exactly: Int(length))
  }

  /// Takes leave as the kernel does.
  func disconnect(_ link: Link) {
    let stream = ByteStream(link.socket, tls: link.tls, scope: AttemptScope(queue: executor.queue))
    stream.writeIfPossible(Request(.disconnect, cookie: 0).bytes)
  }

  /// Whether the server has closed, without another byte before that.
  func isClosed(_ link: Link) async -> Bool {
    let stream = ByteStream(link.socket, tls: link.tls, scope: AttemptScope(queue: executor.queue))
    do {
      _ = try await stream.read(exactly: 1)
      return false
    } catch {
      return error == .closed(partial: false)
    }
  }
}

/// The data of nbdkit's pattern plugin: at each multiple of eight its own offset, big-endian.
func pattern(offset: UInt64, count: Int) -> [UInt8] {
  (0..<UInt64(count)).map { position in
    let at = offset + position
    return UInt8(truncatingIfNeeded: (at & ~7) >> (56 - 8 * (at & 7)))
  }
}

/// Fails unless the connector does; the failure.
func failure(_ body: () async throws(Failure) -> some Sendable) async throws -> Failure {
  do {
    _ = try await body()
  } catch {
    return error
  }
  throw ServerProcess.Unready(description: "what should fail has succeeded")
}
