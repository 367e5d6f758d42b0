/// Where configuration is read from.
package struct ConfigurationPaths: Equatable, Sendable {
  /// The daemon-wide file; nothing is wrong where it does not exist.
  package var daemonFile: String?
  /// Their `*.yaml` are read in the order of their names' bytes, one directory after the other; nothing is wrong
  /// where one does not exist.
  package var directories: [String]
  /// Files and directories that somebody named, read after the others; each must exist. A directory is one of
  /// attachments, or holds an `nbdattachd.yaml` or an `attachments.d` as `/etc/nbdattach` does.
  package var named: [String]

  package init(daemonFile: String?, directories: [String]) {
    self.daemonFile = daemonFile
    self.directories = directories
    named = []
  }

  /// Only these files and directories.
  package init(named: [String]) {
    daemonFile = nil
    directories = []
    self.named = named
  }

  /// The files that the daemon reads.
  package static let standard = ConfigurationPaths(
    daemonFile: "/etc/nbdattach/nbdattachd.yaml",
    directories: ["/etc/nbdattach/attachments.d", "/run/nbdattach/attachments.d"])
}
