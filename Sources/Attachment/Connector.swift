package import AttachmentModel
import Dispatch
import Glibc
import LinuxKernel
package import NBDProtocol

/// Finds a server, connects and negotiates: from a URI to what the handshake was for.
///
/// Concurrency model: runs where its scope's queue is; the caller awaits it there.
package struct Connector {
  package enum Result: Sendable {
    /// In transmission: the next bytes are the kernel's.
    case link(Link)
    /// The connection has been left in order.
    case answered(Handshake.Outcome, style: Handshake.Style?, peer: String)
  }

  package let server: ServerURI
  private let scope: AttemptScope
  private let progress: (String) -> Void

  /// `progress` gets each step in words, such as `connecting to 192.0.2.1 port 10809`.
  package init(server: ServerURI, scope: AttemptScope, progress: @escaping (String) -> Void = { _ in }) {
    self.server = server
    self.scope = scope
    self.progress = progress
  }

  /// Makes a link for the kernel. `timeout` is from name look-up to the end of negotiation.
  package nonisolated(nonsending) func link(timeout: Duration) async throws(Failure) -> Link {
    switch try await run(.attach(export: server.exportName), timeout: timeout) {
    case .link(let link): return link
    case .answered:
      throw Failure(.negotiating, "the handshake did not reach transmission", advice: .retry)
    }
  }

  package nonisolated(nonsending) func run(
    _ goal: Handshake.Goal, timeout: Duration
  ) async throws(Failure) -> Result {
    scope.clearTimeout()
    scope.setDeadline(after: timeout)
    defer { scope.setDeadline(after: nil) }
    guard !server.usesTLS else {
      throw Failure(.negotiating, "TLS is not supported yet", hint: "use an nbd URI", advice: .giveUp)
    }
    let addresses = try await addresses(timeout: timeout)
    let (socket, peer) = try await connect(to: addresses, timeout: timeout)
    progress("negotiating with \(peer)")
    return try await negotiate(goal, over: socket, peer: "\(peer)", timeout: timeout)
  }

  private nonisolated(nonsending) func addresses(timeout: Duration) async throws(Failure) -> [SocketAddress] {
    switch server.address {
    case .unix(let path, let isAbstract):
      do { return [try .unix(path: path, isAbstract: isAbstract)] } catch {
        throw Failure(.connecting, "\(error)", errnoCode: error.code, advice: .giveUp)
      }
    case .vsock(let cid, let port):
      return [.vsock(cid: cid, port: port)]
    case .tcp(let host, let port):
      progress("looking up \(host)")
      return try await lookUp(host, port, timeout: timeout)
    }
  }

  private nonisolated(nonsending) func lookUp(
    _ host: String, _ port: UInt16, timeout: Duration
  ) async throws(Failure) -> [SocketAddress] {
    let queue = scope.queue
    let result: Swift.Result<[SocketAddress], Resolver.LookupError>
    do {
      result = try await scope.wait { finish in
        let answer = QueueBound(finish)
        Resolver.shared.resolve(host: host, port: port) { found in queue.async { answer.value(found) } }
        return { finish(nil) }
      }
    } catch {
      throw .ended(error, .resolving, "looking up \(host)", after: timeout)
    }
    switch result {
    case .success(let addresses): return addresses
    case .failure(let error):
      throw Failure(
        .resolving, "looking up \(host): \(error)",
        hint: error.isUnknownHost ? "check the host name in the URI" : nil, advice: .retry)
    }
  }

  private nonisolated(nonsending) func connect(
    to addresses: [SocketAddress], timeout: Duration
  ) async throws(Failure) -> (OpenFile, SocketAddress) {
    let target = addresses.count == 1 ? "\(addresses[0])" : "\(server.address)"
    progress("connecting to \(target)")
    let outcome: ConnectionRace.Outcome
    do { outcome = try await ConnectionRace.run(addresses, scope: scope) } catch {
      throw .ended(error, .connecting, "connecting to \(target)", after: timeout)
    }
    switch outcome {
    case .connected(let socket, let peer): return (socket, peer)
    case .failed(let errors): throw .connecting(errors, server)
    }
  }

  private nonisolated(nonsending) func negotiate(
    _ goal: Handshake.Goal, over socket: OpenFile, peer: String, timeout: Duration
  ) async throws(Failure) -> Result {
    let stream = ByteStream(socket, scope: scope)
    var handshake = Handshake(goal: goal, security: .plain)
    do throws(NegotiationError) {
      var step = handshake.start()
      while true {
        do { try await stream.write(step.send) } catch { throw .stream(error) }
        switch step.next {
        case .receive(let count):
          let bytes: [UInt8]
          do { bytes = try await stream.read(exactly: count) } catch { throw .stream(error) }
          do { step = try handshake.received(bytes) } catch { throw .handshake(error) }
        case .startTLS:
          throw .handshake(.outOfStep)
        case .finished(.transmission(let export)):
          guard case .attach = goal else {
            stream.writeIfPossible(handshake.farewell)
            return .answered(.inspected(export), style: handshake.style, peer: peer)
          }
          return .link(Link(socket: socket, server: server, peer: peer, export: export))
        case .finished(let outcome):
          stream.writeIfPossible(handshake.farewell)
          return .answered(outcome, style: handshake.style, peer: peer)
        }
      }
    } catch {
      switch error {
      case .handshake(let error):
        stream.writeIfPossible(handshake.farewell)
        throw .negotiating(error, export: server.exportName)
      case .stream(.closed), .stream(.system(SystemCallError("recv", ECONNRESET))),
        .stream(.system(SystemCallError("send", ECONNRESET))), .stream(.system(SystemCallError("send", EPIPE))):
        throw .negotiating(handshake.peerClosed(), export: server.exportName)
      case .stream(.system(let error)):
        throw Failure(.negotiating, "\(error)", errnoCode: error.code, advice: .retry)
      case .stream(.ended(let end)):
        stream.writeIfPossible(handshake.farewell)
        throw .ended(end, .negotiating, "negotiating with \(peer)", after: timeout)
      }
    }
  }
}

private enum NegotiationError: Error {
  case handshake(HandshakeError)
  case stream(ByteStream.Failure)
}

/// Carries a value through a callback of another thread back to the one queue on which it is used.
private struct QueueBound<Value>: @unchecked Sendable {
  // Safe because the value is only touched on the queue that it came from.
  let value: Value

  init(_ value: Value) { self.value = value }
}
