package import AttachmentModel
import LinuxKernel
package import NBDProtocol

/// Asks a server what it has, for people rather than for the kernel.
package actor Probe {
  package struct Answer<Value: Sendable>: Sendable {
    package let value: Value
    /// How the server greeted.
    package let style: Handshake.Style?
    /// The address that answered.
    package let peer: String
  }

  private nonisolated let executor = QueueExecutor(label: "probe")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let server: ServerURI
  private let timeout: Duration

  package init(_ server: ServerURI, timeout: Duration) {
    self.server = server
    self.timeout = timeout
  }

  /// The exports that the server lists.
  package func exports() async throws(Failure) -> Answer<[ExportEntry]> {
    let (outcome, style, peer) = try await ask(.list)
    guard case .exports(let entries) = outcome else { throw .unexpectedAnswer }
    return Answer(value: entries, style: style, peer: peer)
  }

  /// What the server says of the URI's export.
  package func export() async throws(Failure) -> Answer<ExportInfo> {
    let (outcome, style, peer) = try await ask(.inspect(export: server.exportName))
    guard case .inspected(let info) = outcome else { throw .unexpectedAnswer }
    return Answer(value: info, style: style, peer: peer)
  }

  private func ask(_ goal: Handshake.Goal) async throws(Failure) -> (Handshake.Outcome, Handshake.Style?, String) {
    let connector = Connector(server: server, scope: AttemptScope(queue: executor.queue))
    guard case .answered(let outcome, let style, let peer) = try await connector.run(goal, timeout: timeout) else {
      throw .unexpectedAnswer
    }
    return (outcome, style, peer)
  }
}

extension Failure {
  fileprivate static var unexpectedAnswer: Failure {
    Failure(.negotiating, "the server answered something else than it was asked", advice: .giveUp)
  }
}
