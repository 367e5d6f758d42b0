import AttachmentModel

/// What `nbdattach status` prints: every attachment in a line, and below it why one is not attached.
package struct StatusTable {
  private let document: StatusDocument
  private let now: Double

  /// `now` is in seconds since the epoch.
  package init(_ document: StatusDocument, now: Double) {
    self.document = document
    self.now = now
  }

  /// Lines without a newline at their ends.
  package var lines: [String] {
    if document.attachments.isEmpty { return ["No attachments are configured."] + configurationError }
    let rows = document.attachments.map(row)
    let widths = StatusTable.header.indices.map { column in
      ([StatusTable.header] + rows).map { $0[column].count }.max() ?? 0
    }
    var lines = [StatusTable.line(StatusTable.header, widths)]
    for (attachment, row) in zip(document.attachments, rows) {
      lines.append(StatusTable.line(row, widths))
      lines += attachment.why(now: now).map { "  " + $0 }
    }
    return lines + configurationError
  }

  private static let header = ["NAME", "STATE", "DEVICE", "SIZE", "SERVER", "SINCE"]

  private func row(_ attachment: StatusDocument.Attachment) -> [String] {
    [
      cell(attachment.name), attachment.state.rawValue, cell(attachment.device),
      attachment.size.map(sizeText) ?? "-", cell(attachment.server),
      durationText(now - attachment.since.seconds),
    ]
  }

  /// The last column is not padded: no line ends in blanks.
  private static func line(_ cells: [String], _ widths: [Int]) -> String {
    let padded = zip(cells, widths).map { $0 + String(repeating: " ", count: max(0, $1 - $0.count)) }
    return (padded.dropLast() + cells.suffix(1)).joined(separator: "  ")
  }

  private var configurationError: [String] {
    guard let error = document.daemon.configurationError else { return [] }
    return ["", "The configuration has errors: \(printable(error))", "hint: nbdattach check shows all of them"]
  }
}

extension StatusDocument.Attachment {
  /// Whether I/O reaches the server.
  package var isAttached: Bool { state == .attached || state == .degraded }

  /// Why it is not (wholly) attached, or only for the time being, and what comes next; no line where there is nothing
  /// to say.
  func why(now: Double) -> [String] {
    if state == .attached { return (activity.map { [printable($0)] } ?? []) + warnings(now: now) }
    var parts: [String] = []
    if let failure { parts.append(failure.sentence) }
    if let activity { parts.append(printable(activity)) }
    if let nextTry { parts.append("next try \(inText(nextTry.seconds - now))") }
    let hint = failure?.hint.map { ["hint: " + printable($0)] } ?? []
    return (parts.isEmpty ? [] : [parts.joined(separator: "; ")]) + hint + warnings(now: now)
  }

  /// What is wrong although it may be attached.
  func warnings(now: Double) -> [String] {
    var lines: [String] = []
    if let renewalFailure {
      lines.append("its links are not as declared, because new ones can't be had: \(renewalFailure.sentence)")
      if let hint = renewalFailure.hint { lines.append("hint: " + printable(hint)) }
    }
    if let stalledSince, state == .attached || state == .degraded {
      lines.append("stalled: a request has waited \(durationText(now - stalledSince.seconds)) for its answer")
    }
    if dataLossCount > 0 {
      lines.append("DATA LOST: the server has lost acknowledged writes: \(dataLossCount)")
      lines.append(
        "hint: nbdattach status \(printable(name)) shows which; nbdattach acknowledge \(printable(name)) ends this")
    }
    return lines
  }
}

extension StatusDocument.Failure {
  var sentence: String { "\(phase): \(printable(message))" }
}

/// A field of a table: never empty, of bounded width.
private func cell(_ text: String?) -> String {
  guard let text, !text.isEmpty else { return "-" }
  let printed = printable(text)
  return printed.count > 60 ? printed.prefix(57) + "..." : printed
}
