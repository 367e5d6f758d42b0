package import AttachmentModel

/// What has to happen so that what runs is what is declared: configured minus running, and the other way round.
package struct Plan: Equatable, Sendable {
  package enum Action: Equatable, Sendable {
    /// Not running: begin.
    case start(AttachmentSpec)
    /// Running unchanged: try again now if it waits, and leave it alone otherwise.
    case keep
    /// Only what needs neither a new device nor a new link has changed.
    case update(AttachmentSpec)
    /// What has changed needs new links, and no new device: as `update` for who carries it out.
    case renew(AttachmentSpec)
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
  ///   - renewable: names of those whose device takes new links while it lives.
  package init(declared: [AttachmentSpec], running: [String: AttachmentSpec], renewable: Set<String> = []) {
    var actions: [String: Action] = [:]
    for name in running.keys { actions[name] = .stop }
    for spec in declared {
      guard let old = running[spec.name] else {
        actions[spec.name] = .start(spec)
        continue
      }
      actions[spec.name] = Plan.change(from: old, to: spec, isRenewable: renewable.contains(spec.name))
    }
    self.actions = actions
  }

  /// The new spec, where a device that lives on takes it over.
  package static func change(of running: AttachmentSpec, to declared: AttachmentSpec) -> AttachmentSpec? {
    switch change(from: running, to: declared, isRenewable: true) {
    case .update(let spec), .renew(let spec): spec
    case .start, .keep, .replace, .stop: nil
    }
  }

  private static func change(from old: AttachmentSpec, to new: AttachmentSpec, isRenewable: Bool) -> Action {
    if old == new { return .keep }
    var softened = old
    softened.connectTimeout = new.connectTimeout
    softened.retry = new.retry
    softened.reconnectTimeout = new.reconnectTimeout
    softened.failBack = new.failBack
    if new.isRelayed {
      softened.unflushedLimit = new.unflushedLimit
      softened.requestTimeout = new.requestTimeout
      softened.fenceTimeout = new.fenceTimeout
    }
    if softened == new { return .update(new) }
    // Another server may have the same data; another export is another device.
    let exports = Set(old.servers.map(\.exportName))
    guard isRenewable, new.servers.allSatisfy({ exports.contains($0.exportName) }) else { return .replace(new) }
    softened.linkSettings = new.linkSettings
    return softened == new ? .renew(new) : .replace(new)
  }
}
