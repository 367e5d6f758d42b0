import AttachmentModel

/// What `nbdattach status --watch` prints where nobody looks at a screen: a line for each change.
package struct StatusChanges {
  private var known: [String: String] = [:]
  private var lastError: ControlError?

  package init() {}

  /// Lines without a newline at their ends: `2026-01-31T09:30:00Z data: attached`. At first every attachment has one.
  ///
  /// `now` is in seconds since the epoch.
  package mutating func lines(_ answer: Result<StatusDocument, ControlError>, now: Double) -> [String] {
    let time = Timestamp(now).withoutFraction
    switch answer {
    case .failure(let error):
      defer { lastError = error }
      return error == lastError ? [] : ["\(time) \(error)"]
    case .success(let document):
      lastError = nil
      var lines: [String] = []
      var seen: [String: String] = [:]
      for attachment in document.attachments {
        let sentence = attachment.change
        seen[attachment.name] = sentence
        if known[attachment.name] != sentence { lines.append("\(time) \(printable(attachment.name)): \(sentence)") }
      }
      for name in known.keys.sorted() where seen[name] == nil { lines.append("\(time) \(printable(name)): removed") }
      known = seen
      return lines
    }
  }
}

extension StatusDocument.Attachment {
  /// What is worth a line when it becomes different; the number of tries and the time of the next are not.
  fileprivate var change: String {
    var parts = [state.rawValue]
    if let device { parts.append(printable(device)) }
    if state != .attached, let failure { parts.append(failure.sentence) }
    return parts.joined(separator: ", ")
  }
}
