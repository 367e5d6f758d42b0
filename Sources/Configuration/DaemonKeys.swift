import AttachmentModel

/// `nbdattachd.yaml` while it is being read.
struct DaemonDraft {
  var settings = DaemonSettings()
  /// What every attachment starts from.
  var defaults = AttachmentDraft(spec: AttachmentSpec(name: "", servers: []))
}

/// Every key of `nbdattachd.yaml`.
let daemonKeys: [Key<DaemonDraft>] = [
  .value("startup-timeout", .duration(.seconds(1) ... .seconds(3600)), standard: "30s") {
    $0.settings.startupTimeout = $1
  },
  .value("stop-timeout", .duration(.seconds(1) ... .seconds(3600)), standard: "30s") { $0.settings.stopTimeout = $1 },
  .value("unflushed-budget", .size(0...1 << 40), standard: "1GiB") { $0.settings.unflushedBudget = $1 },
  Key(name: "defaults", content: .value(form: "mapping", readDefaults)),
]

/// Every key that may stand under `defaults:`.
let defaultableKeys = attachmentKeys.filter(\.isDefaultable)

@Sendable private func readDefaults(_ node: YAMLNode, _ draft: inout DaemonDraft, _ diagnostics: inout Diagnostics)
  -> Bool
{
  if node.isNull { return true }
  guard node.isMapping("`defaults`", &diagnostics) else { return false }
  node.read(defaultableKeys, into: &draft.defaults, &diagnostics, unknown: KeyHints.defaults) { draft, path, _, value in
    if let value { draft.places[path] = value }
  }
  let retry = draft.defaults.spec.retry
  if retry.initial > retry.maximum,
    let place = draft.defaults.places["retry.initial"] ?? draft.defaults.places["retry.maximum"]
  {
    diagnostics.report(at: place, "the first pause between tries is longer than the longest")
  }
  return true
}
