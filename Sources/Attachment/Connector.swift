package import AttachmentModel
import Dispatch
import Glibc
import LinuxKernel
package import NBDProtocol
import TLS

/// Finds a server, connects and negotiates: from a URI to what the handshake was for.
///
/// Concurrency model: runs where its scope's queue is; the caller awaits it there.
package struct Connector {
  package enum Result: Sendable {
    /// In transmission: the next bytes are the kernel's.
    case link(Link)
    /// The connection has been left in order.
    case answered(Handshake.Outcome, Conversation)
  }

  /// How the server was spoken to.
  package struct Conversation: Sendable {
    /// How it greeted.
    package let style: Handshake.Style?
    /// The address that answered.
    package let peer: String
    /// Such as `TLS 1.3, AES-256-GCM`, and whether nobody looked at the certificate; `nil` in clear.
    package let security: String?
  }

  package let server: ServerURI
  private let tls: TLSSpec?
  private let isForKernelTLS: Bool
  private let scope: AttemptScope
  private let progress: (String) -> Void

  /// `tls` is for a server with TLS, beside what its URI says. `isForKernelTLS`: links are to be given to the kernel with
  /// their keys, so that what it can't do is not offered. `progress` gets each step in words, such as
  /// `connecting to 192.0.2.1 port 10809`.
  package init(
    server: ServerURI, tls: TLSSpec? = nil, isForKernelTLS: Bool = false, scope: AttemptScope,
    progress: @escaping (String) -> Void = { _ in }
  ) {
    self.server = server
    self.tls = tls
    self.isForKernelTLS = isForKernelTLS
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
    let security = try await security(timeout: timeout)
    let addresses = try await addresses(timeout: timeout)
    let (socket, peer) = try await connect(to: addresses, timeout: timeout)
    progress("negotiating with \(peer)")
    return try await Negotiation(server: server, scope: scope, socket: socket, peer: "\(peer)", security: security)
      .run(goal, timeout: timeout)
  }

  /// What TLS takes, loaded before the server hears of us; `nil` for a server without TLS.
  private nonisolated(nonsending) func security(timeout: Duration) async throws(Failure) -> Negotiation.Security? {
    guard server.usesTLS else { return nil }
    let requirements: TLSRequirements
    do { requirements = try TLSRequirements(server, tls) } catch { throw .securing(error) }
    let queue = scope.queue
    let result: Swift.Result<TLSCredentials, TLSError>
    do {
      result = try await scope.wait { finish in
        let answer = QueueBound(finish)
        CredentialStore.shared.load(requirements.credentials) { loaded in queue.async { answer.value(loaded) } }
        return { finish(nil) }
      }
    } catch {
      throw .ended(error, .negotiating, "reading the TLS credentials", after: timeout)
    }
    do {
      return Negotiation.Security(
        requirements: requirements, credentials: try result.get(), isForKernel: isForKernelTLS)
    } catch {
      throw .securing(error)
    }
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
}

/// Carries a value through a callback of another thread back to the one queue on which it is used.
private struct QueueBound<Value>: @unchecked Sendable {
  // Safe because the value is only touched on the queue that it came from.
  let value: Value

  init(_ value: Value) { self.value = value }
}
