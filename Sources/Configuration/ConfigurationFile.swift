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
  /// The permission bits of a regular file.
  case mode(UInt32)
  /// Exists, but is no regular file, or can't be looked at; with the reason.
  case unusable(String)
}

/// Looks at a file that holds a secret, by its path.
package typealias KeyFileInspector = @Sendable (String) -> KeyFileStatus
