package import AttachmentModel
import LinuxKernel
package import NBDProtocol

/// Asks a server what it has, for people rather than for the kernel.
package actor Probe {
  package struct Answer<Value: Sendable>: Sendable {
    package let value: Value
    package let conversation: Connector.Conversation

    package var style: Handshake.Style? { conversation.style }
    package var peer: String { conversation.peer }
  }

  private nonisolated let executor = QueueExecutor(label: "probe")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let server: ServerURI
  private let tls: TLSSpec?
  private let timeout: Duration

  /// `tls` is for a server with TLS, beside what its URI says.
  package init(_ server: ServerURI, tls: TLSSpec? = nil, timeout: Duration) {
    self.server = server
    self.tls = tls
    self.timeout = timeout
  }

  /// The exports that the server lists.
  package func exports() async throws(Failure) -> Answer<[ExportEntry]> {
    let (outcome, conversation) = try await ask(.list)
    guard case .exports(let entries) = outcome else { throw .unexpectedAnswer }
    return Answer(value: entries, conversation: conversation)
  }

  /// What the server says of the URI's export.
  package func export() async throws(Failure) -> Answer<ExportInfo> {
    let (outcome, conversation) = try await ask(.inspect(export: server.exportName))
    guard case .inspected(let info) = outcome else { throw .unexpectedAnswer }
    return Answer(value: info, conversation: conversation)
  }

  private func ask(_ goal: Handshake.Goal) async throws(Failure) -> (Handshake.Outcome, Connector.Conversation) {
    let connector = Connector(server: server, tls: tls, scope: AttemptScope(queue: executor.queue))
    guard case .answered(let outcome, let conversation) = try await connector.run(goal, timeout: timeout) else {
      throw .unexpectedAnswer
    }
    return (outcome, conversation)
  }
}

extension Failure {
  fileprivate static var unexpectedAnswer: Failure {
    Failure(.negotiating, "the server answered something else than it was asked", advice: .giveUp)
  }
}
