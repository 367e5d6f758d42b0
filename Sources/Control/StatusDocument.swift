package import AttachmentModel
import FoundationEssentials

/// What the method `Status` returns and `nbdattach status --json` prints; `org.nbdattach.varlink` describes each field.
package struct StatusDocument: Codable, Equatable, Sendable {
  package var daemon: Daemon
  /// In order of name.
  package var attachments: [Attachment]

  package struct Daemon: Codable, Equatable, Sendable {
    package var version: String
    package var pid: Int
    package var started: Timestamp
    package var configurationLoaded: Timestamp?
    package var configurationError: String?
  }

  package struct Attachment: Codable, Equatable, Sendable {
    package var name: String
    package var state: AttachmentReport.State
    package var since: Timestamp
    package var activity: String?
    package var device: String?
    package var server: String?
    package var export: String?
    package var size: Int64?
    package var readOnly: Bool?
    package var blockSize: Int?
    package var kernelInterface: KernelInterface?
    package var datapath: Datapath?
    package var links: Int
    package var failure: Failure?
    package var nextTry: Timestamp?
    package var attempts: Int
    package var losses: Int
  }

  package struct Failure: Codable, Equatable, Sendable {
    package var phase: AttachmentModel.Failure.Phase
    package var message: String
    package var hint: String?
    package var errno: Int32?
  }

  package init(_ snapshot: StatusSnapshot) {
    daemon = Daemon(snapshot.daemon)
    attachments = snapshot.attachments.map(Attachment.init).sorted { $0.name < $1.name }
  }
}

extension StatusDocument.Daemon {
  fileprivate init(_ report: DaemonReport) {
    self.init(
      version: report.version, pid: Int(report.pid), started: Timestamp(report.started),
      configurationLoaded: report.configurationLoaded.map(Timestamp.init),
      configurationError: report.configurationError)
  }
}

extension StatusDocument.Attachment {
  fileprivate init(_ report: AttachmentReport) {
    self.init(
      name: report.name, state: report.state, since: Timestamp(report.since), activity: report.activity,
      device: report.device, server: report.server, export: report.export,
      size: report.size.map(Int64.init(clamping:)), readOnly: report.isReadOnly, blockSize: report.blockSize,
      kernelInterface: report.kernelInterface, datapath: report.datapath, links: report.links,
      failure: report.failure.map(StatusDocument.Failure.init), nextTry: report.nextTry.map(Timestamp.init),
      attempts: report.attempts, losses: report.losses)
  }
}

extension StatusDocument.Failure {
  fileprivate init(_ failure: AttachmentModel.Failure) {
    self.init(phase: failure.phase, message: failure.message, hint: failure.hint, errno: failure.errnoCode)
  }
}

extension StatusDocument {
  /// For people and for `jq`: indented, keys in order.
  package func prettyJSON() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}
