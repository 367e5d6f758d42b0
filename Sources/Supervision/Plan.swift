package import AttachmentModel

/// What has to happen so that what runs is what is declared: configured minus running, and the other way round.
package struct Plan: Equatable, Sendable {
  package enum Action: Equatable, Sendable {
    /// Not running: begin.
    case start(AttachmentSpec)
    /// Running unchanged: try again now if it waits, and leave it alone otherwise.
    case keep
    /// Only what needs no new device has changed.
    case update(AttachmentSpec)
    /// Stop, then start as declared now.
    case replace(AttachmentSpec)
    /// No longer declared.
    case stop
  }

  /// By attachment name.
  package let actions: [String: Action]

  /// - Parameters:
  ///   - declared: with unique names.
  ///   - running: what each running attachment was last told to be, by name.
  package init(declared: [AttachmentSpec], running: [String: AttachmentSpec]) {
    var actions: [String: Action] = [:]
    for name in running.keys { actions[name] = .stop }
    for spec in declared {
      actions[spec.name] = running[spec.name].map { Plan.change(from: $0, to: spec) } ?? .start(spec)
    }
    self.actions = actions
  }

  private static func change(from old: AttachmentSpec, to new: AttachmentSpec) -> Action {
    if old == new { return .keep }
    var softened = old
    softened.connectTimeout = new.connectTimeout
    softened.reconnectTimeout = new.reconnectTimeout
    softened.retry = new.retry
    return softened == new ? .update(new) : .replace(new)
  }
}
