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
    let pairs = pairs.compactMap { name, value in value.map { (name, $0) } } + losses
    let width = (pairs + Self.counted(attachment.statistics)).map(\.0.count).max() ?? 0
    return [printable(attachment.name)]
      + (pairs + Self.counted(attachment.statistics)).map { name, value in
        "  " + String(repeating: " ", count: width - name.count) + name + ": " + value
      }
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
      ("protection", attachment.tls?.sentence),
      ("links", "\(attachment.links)"),
      ("links lost", attachment.losses > 0 ? "\(attachment.losses)" : nil),
      ("not as declared", attachment.renewalFailure?.sentence),
      ("stalled", attachment.stalledSince.map { "since \(moment($0))" }),
    ]
  }

  private var losses: [(String, String)] {
    let shown = attachment.dataLosses.map { loss in
      let error = SystemCallError.text(of: loss.errno)
      let place =
        loss.bytes == loss.length
        ? "\(loss.length) bytes at offset \(loss.offset)"
        : "\(loss.bytes) bytes between offset \(loss.offset) and \(loss.offset &+ loss.length)"
      return ("data lost", "\(place), \(moment(loss.time)): \(error)")
    }
    let more = attachment.dataLosses.reduce(attachment.dataLossCount) { $0 &- $1.writes }
    return shown + (more > 0 ? [("data lost", "and \(more) \(more == 1 ? "write" : "writes") more")] : [])
  }

  private static func counted(_ statistics: StatusDocument.Statistics?) -> [(String, String)] {
    guard let statistics else { return [] }
    func sum(_ requests: StatusDocument.Requests, showsBytes: Bool = true) -> String {
      let bytes = showsBytes ? ", \(sizeText(requests.bytes))" : ""
      return "\(requests.count)\(bytes)" + (requests.errors > 0 ? ", errors: \(requests.errors)" : "")
    }
    var pairs = [
      ("reads", sum(statistics.reads)), ("writes", sum(statistics.writes)),
      ("flushes", sum(statistics.flushes, showsBytes: false)), ("trims", sum(statistics.trims)),
      ("waiting now", "\(statistics.queueDepth)"),
      ("unflushed", sizeText(statistics.unflushed)),
    ]
    if let latency = statistics.latencyText { pairs.append(("answered within", latency)) }
    if statistics.resent + statistics.replayed > 0 {
      let replayed = "acknowledged writes: \(statistics.replayed), \(sizeText(statistics.replayedBytes))"
      pairs.append(("sent again", "requests: \(statistics.resent), \(replayed)"))
    }
    if statistics.heldMilliseconds > 0 {
      pairs.append(("held", "\(shortTimeText(Double(statistics.heldMilliseconds) / 1e3)) in all"))
    }
    return pairs
  }

  private func moment(_ timestamp: Timestamp) -> String {
    "\(timestamp.withoutFraction) (\(durationText(now - timestamp.seconds)))"
  }
}

extension StatusDocument.Security {
  /// Such as `TLS 1.3, AES-256-GCM, in the relay`.
  fileprivate var sentence: String {
    let verification = serverVerified ? "" : ", server not verified"
    return "\(printable(version)), \(printable(cipher)), in the \(place)\(verification)"
  }
}
