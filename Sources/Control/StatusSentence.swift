import AttachmentModel

extension StatusSnapshot {
  /// The whole in one line, as STATUS= says it: `12 attached, 1 reconnecting (data)`.
  ///
  /// At most three names for each state, so that it stays a sentence with a thousand attachments too.
  package var sentence: String {
    let parts = StatusSnapshot.sentenceOrder.compactMap(part)
    let attachments = parts.isEmpty ? "no attachments configured" : parts.joined(separator: ", ")
    let lost = self.attachments.filter { $0.dataLossCount > 0 }.map(\.name).sorted()
    let loss = lost.isEmpty ? "" : "; data lost (\(StatusSnapshot.shortened(lost)))"
    return attachments + loss + (daemon.configurationError == nil ? "" : "; the configuration has errors")
  }

  private static let sentenceOrder: [AttachmentReport.State] = [
    .attached, .degraded, .reconnecting, .failed, .waiting, .connecting, .detaching, .stopped,
  ]

  private func part(_ state: AttachmentReport.State) -> String? {
    let names = attachments.lazy.filter { $0.state == state }.map(\.name).sorted()
    if names.isEmpty { return nil }
    if state == .attached { return "\(names.count) \(state)" }
    return "\(names.count) \(state) (\(StatusSnapshot.shortened(names)))"
  }

  private static func shortened(_ names: [String]) -> String {
    let rest = names.count > 3 ? " and \(names.count - 3) more" : ""
    return printable(names.prefix(3).joined(separator: ", ")) + rest
  }
}
