import AttachmentModel
import LinuxKernel

/// What `nbdattach status NAME` prints: everything that is known of one attachment.
package struct StatusDetail {
  private let attachment: StatusDocument.Attachment
  private let now: Double

  /// `now` is in seconds since the epoch.
  package init(_ attachment: StatusDocument.Attachment, now: Double) {
    self.attachment = attachment
    self.now = now
  }

  /// Lines without a newline at their ends.
  package var lines: [String] {
    let pairs = pairs.compactMap { name, value in value.map { (name, $0) } }
    let width = pairs.map(\.0.count).max() ?? 0
    return [printable(attachment.name)]
      + pairs.map { name, value in "  " + String(repeating: " ", count: width - name.count) + name + ": " + value }
  }

  private var pairs: [(String, String?)] {
    [
      ("state", "\(attachment.state) since \(moment(attachment.since))"),
      ("activity", attachment.activity.map(printable)),
      ("failure", attachment.failure?.sentence),
      ("errno", attachment.failure?.errno.map { "\($0) (\(SystemCallError.text(of: $0)))" }),
      ("hint", attachment.failure?.hint.map(printable)),
      ("next try", attachment.nextTry.map { "\($0.withoutFraction) (\(inText($0.seconds - now)))" }),
      ("attempts", attachment.attempts > 0 ? "\(attachment.attempts) since the last success" : nil),
      ("device", attachment.device.map(printable)),
      ("server", attachment.server.map(printable)),
      ("export", attachment.export.map { "\"\(printable($0))\"" }),
      ("size", attachment.size.map { "\(sizeText($0)) (\($0) bytes)" }),
      ("read-only", attachment.readOnly.map { $0 ? "yes" : "no" }),
      ("block size", attachment.blockSize.map { "\($0) bytes" }),
      ("kernel interface", attachment.kernelInterface?.rawValue),
      ("datapath", attachment.datapath?.rawValue),
      ("links", "\(attachment.links)"),
      ("links lost", attachment.losses > 0 ? "\(attachment.losses)" : nil),
    ]
  }

  private func moment(_ timestamp: Timestamp) -> String {
    "\(timestamp.withoutFraction) (\(durationText(now - timestamp.seconds)))"
  }
}
