import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import TLS

/// Negotiates over a connection that stands: carries out what the handshake says, and TLS in its midst.
///
/// Concurrency model: as the connector's.
struct Negotiation {
  /// What protects the connection.
  struct Security {
    let requirements: TLSRequirements
    let credentials: TLSCredentials
    /// The kernel is to make the records, once there is a link.
    let isForKernel: Bool
  }

  let server: ServerURI
  let scope: AttemptScope
  let socket: OpenFile
  let peer: String
  /// `nil`: in clear.
  let security: Security?

  nonisolated(nonsending) func run(
    _ goal: Handshake.Goal, timeout: Duration
  ) async throws(Failure) -> Connector.Result {
    let stream = ByteStream(socket, scope: scope)
    var handshake = Handshake(goal: goal, security: security == nil ? .plain : .tls)
    do throws(Problem) {
      var step = handshake.start()
      while true {
        do { try await stream.write(step.send) } catch { throw .stream(error) }
        switch step.next {
        case .receive(let count):
          let bytes: [UInt8]
          do { bytes = try await stream.read(exactly: count) } catch { throw .stream(error) }
          do { step = try handshake.received(bytes) } catch { throw .handshake(error) }
        case .startTLS:
          try await secure(stream)
          do { step = try handshake.tlsEstablished() } catch { throw .handshake(error) }
        case .finished(.transmission(let export)):
          if case .attach = goal {
            return .link(
              Link(
                socket: socket, tls: stream.tls, security: protection(of: stream), server: server, peer: peer,
                export: export))
          }
          return answered(.inspected(export), stream, handshake)
        case .finished(let outcome):
          return answered(outcome, stream, handshake)
        }
      }
    } catch {
      throw failure(error, stream, &handshake, timeout: timeout)
    }
  }

  private enum Problem: Error {
    case handshake(HandshakeError)
    case stream(ByteStream.Failure)
    case injectedPlaintext
  }

  private nonisolated(nonsending) func secure(_ stream: ByteStream) async throws(Problem) {
    guard let security else { throw .handshake(.outOfStep) }
    // The server has nothing to say before our greeting. What comes later in clear can't be TLS, and fails there.
    guard !stream.hasUnreadInput else { throw .injectedPlaintext }
    do throws(ByteStream.Failure) {
      let session: TLSSession
      do {
        session = try TLSSession(
          security.credentials, server: security.requirements.server, priorities: security.requirements.priorities,
          socket: socket.number, isForKernel: security.isForKernel)
      } catch {
        throw .tls(error)
      }
      try await stream.secure(by: session)
    } catch {
      throw .stream(error)
    }
  }

  private func protection(of stream: ByteStream) -> LinkSecurity? {
    guard let tls = stream.tls, let security else { return nil }
    return LinkSecurity(
      version: tls.version, cipher: tls.cipher, place: .relay, isServerVerified: !security.requirements.isUnverified)
  }

  private func answered(
    _ outcome: Handshake.Outcome, _ stream: ByteStream, _ handshake: Handshake
  ) -> Connector.Result {
    leave(stream, handshake)
    return .answered(
      outcome, Connector.Conversation(style: handshake.style, peer: peer, security: description(of: stream.tls)))
  }

  private func description(of session: TLSSession?) -> String? {
    let verification = security?.requirements.isUnverified == true ? ", server not verified" : ""
    return session?.summary.map { $0 + verification }
  }

  private func leave(_ stream: ByteStream, _ handshake: Handshake) {
    stream.writeIfPossible(handshake.farewell)
    stream.closeTLS()
  }

  private func failure(
    _ problem: Problem, _ stream: ByteStream, _ handshake: inout Handshake, timeout: Duration
  ) -> Failure {
    switch problem {
    case .injectedPlaintext:
      return .injectedPlaintext
    case .handshake(let error):
      leave(stream, handshake)
      return .negotiating(error, export: server.exportName)
    case .stream(.closed):
      return closed(stream, &handshake)
    case .stream(.system(let error)) where Self.endedByPeer.contains(error.code):
      return closed(stream, &handshake)
    case .stream(.tls(.system(_, let code))) where Self.endedByPeer.contains(code):
      return closed(stream, &handshake)
    case .stream(.system(let error)):
      return Failure(.negotiating, "\(error)", errnoCode: error.code, advice: .retry)
    case .stream(.tls(let error)):
      return .securing(error)
    case .stream(.ended(let end)):
      leave(stream, handshake)
      return .ended(end, .negotiating, "negotiating with \(peer)", after: timeout)
    }
  }

  /// What a call says of a connection that the server has closed, with bytes of ours unread.
  private static let endedByPeer: Set<Int32> = [ECONNRESET, EPIPE]

  private func closed(_ stream: ByteStream, _ handshake: inout Handshake) -> Failure {
    if let suspicion = stream.tls?.suspicionAfterEnd { return .securing(suspicion) }
    return .negotiating(handshake.peerClosed(), export: server.exportName)
  }
}
