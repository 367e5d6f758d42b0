package import AttachmentModel

/// What the configuration files say, checked and with every default filled in.
package struct Configuration: Equatable, Sendable {
  package var daemon: DaemonSettings
  /// In the order of their names' bytes; names and devices are unique.
  package var attachments: [AttachmentSpec]

  package init(daemon: DaemonSettings = DaemonSettings(), attachments: [AttachmentSpec] = []) {
    self.daemon = daemon
    self.attachments = attachments
  }
}

/// The daemon-wide settings of `nbdattachd.yaml`.
package struct DaemonSettings: Equatable, Sendable {
  /// How long the daemon waits for every attachment's first try before it says READY.
  package var startupTimeout: Duration = .seconds(30)
  /// How long the daemon waits, when it stops, for the kernel to let go of the devices.
  package var stopTimeout: Duration = .seconds(30)
  /// Acknowledged, not yet flushed writes that all attachments keep for replay together, in bytes.
  package var unflushedBudget: UInt64 = 1 << 30

  package init() {}
}
