package import AttachmentModel
package import TLS

/// One file's name and content. Its name decides what it holds: `nbdattachd.yaml` is the daemon's, any other has
/// attachments.
package struct ConfigurationFile: Equatable, Sendable {
  package var path: String
  package var bytes: [UInt8]

  package init(path: String, bytes: [UInt8]) {
    self.path = path
    self.bytes = bytes
  }

  package static let daemonFileName = "nbdattachd.yaml"

  var isDaemonFile: Bool { path.split(separator: "/").last.map(String.init) == Self.daemonFileName }
}

/// What is to be known of a file that holds a secret.
package enum KeyFileStatus: Equatable, Sendable {
  case missing
  /// A regular file with that owner and those permission bits.
  case file(owner: UInt32, mode: UInt32)
  /// Exists, but is no regular file, or can't be looked at by anybody; with the reason.
  case unusable(String)
  /// This user may not look at it; with the reason.
  case hidden(String)
}

/// Looks at a file that holds a secret, by its path.
package typealias KeyFileInspector = @Sendable (String) -> KeyFileStatus

/// Reads the files that credentials are made from, and says what is wrong with them.
package typealias CredentialInspector = @Sendable (TLSRequirements.Credentials) -> [TLSError]

/// The files with credentials, each looked at once however many attachments name it.
final class SecretFiles {
  private let inspectStatus: KeyFileInspector
  private let inspectContent: CredentialInspector
  private var problems: [TLSRequirements.Credentials: [TLSError]] = [:]

  init(status: @escaping KeyFileInspector, problems: @escaping CredentialInspector) {
    inspectStatus = status
    inspectContent = problems
  }

  func status(of path: String) -> KeyFileStatus { inspectStatus(path) }

  func problems(of source: TLSRequirements.Credentials) -> [TLSError] {
    if let known = problems[source] { return known }
    let found = inspectContent(source)
    problems[source] = found
    return found
  }
}
