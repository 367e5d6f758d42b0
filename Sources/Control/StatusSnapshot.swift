package import AttachmentModel

/// All that is known at one moment: what STATUS=, the control socket and the status command render.
package struct StatusSnapshot: Equatable, Sendable {
  package var daemon: DaemonReport
  package var attachments: [AttachmentReport]

  package init(daemon: DaemonReport, attachments: [AttachmentReport] = []) {
    self.daemon = daemon
    self.attachments = attachments
  }
}

/// What is reported of the daemon itself. Times are in seconds since the epoch.
package struct DaemonReport: Equatable, Sendable {
  package var version: String
  package var pid: Int32
  package var started: Double
  /// When the configuration in force was read; `nil`: none was yet.
  package var configurationLoaded: Double?
  /// What is wrong with the configuration as last read, which then is not in force as a whole; `nil`: nothing.
  package var configurationError: String?

  package init(
    version: String = programVersion, pid: Int32, started: Double, configurationLoaded: Double? = nil,
    configurationError: String? = nil
  ) {
    self.version = version
    self.pid = pid
    self.started = started
    self.configurationLoaded = configurationLoaded
    self.configurationError = configurationError
  }
}
