import AttachmentModel

/// Turns files, one after the other, into settings and attachments. The daemon's file comes first, for its defaults.
struct ConfigurationReader {
  var diagnostics = Diagnostics()
  /// Attachments met, whether right or wrong.
  private(set) var attachmentCount = 0
  private var daemon = DaemonDraft()
  private var attachments: [AttachmentSpec] = []
  /// Names of attachments that have an error of their own, or that contradict another.
  private var unsound: Set<String> = []
  /// The daemon's file, whose defaults are part of every attachment, has errors or can't be read.
  var isDaemonFileUnsound = false
  private var names: [String: Place] = [:]
  private var devices: [Int: Owner] = [:]
  private let files: SecretFiles

  private struct Owner {
    var name: String
    var place: Place
  }

  init(files: SecretFiles) { self.files = files }

  /// What was read; of use only where there was no error.
  var configuration: Configuration {
    Configuration(
      daemon: daemon.settings,
      attachments: attachments.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) })
  }

  /// The attachments that nothing is wrong with, or only the content of a file with credentials: what was attached before
  /// waits until that is mended, and says so. None where the defaults can't be relied on.
  var sound: Configuration {
    var sound = configuration
    sound.attachments.removeAll { isDaemonFileUnsound || unsound.contains($0.name) }
    return sound
  }

  mutating func read(_ file: ConfigurationFile) {
    let errorsBefore = diagnostics.errorCount
    defer { if file.isDaemonFile, diagnostics.errorCount > errorsBefore { isDaemonFileUnsound = true } }
    guard file.bytes.count <= SourceFile.maximumSize else {
      diagnostics.report(
        file: file.path, "the file is larger than \(ByteSize.format(UInt64(SourceFile.maximumSize)))",
        hint: "spread the attachments over several files")
      return
    }
    let source = SourceFile(path: file.path, bytes: file.bytes)
    guard source.isText(&diagnostics), let document = YAMLDocument(source, &diagnostics) else { return }
    guard let root = document.root, !root.isNull else { return }
    guard root.isMapping("the file", &diagnostics) else { return }
    if file.isDaemonFile {
      root.read(
        daemonKeys, into: &daemon, &diagnostics, unknown: KeyHints.daemonFile, given: { _, _, _, _ in })
    } else {
      for entry in root.entries(&diagnostics) {
        if entry.name == "attachments" {
          readAttachments(entry.value)
        } else {
          diagnostics.report(
            at: entry.place, "unknown key \(entry.name.quoted())",
            hint: KeyHints.attachmentsFile(entry.name, entry.value))
        }
      }
    }
  }

  private mutating func readAttachments(_ node: YAMLNode) {
    if node.isNull { return }
    if case .sequence = node.content {
      diagnostics.report(
        at: node.place, "`attachments` is a mapping from names to attachments, not a list",
        hint: "write `NAME:` instead of `- `, and the attachment's keys below it")
      return
    }
    guard node.isMapping("`attachments`", &diagnostics) else { return }
    for entry in node.entries(&diagnostics) {
      attachmentCount += 1
      let errorsBefore = diagnostics.ownErrorCount
      if isFree(entry) { readAttachment(entry) }
      if diagnostics.ownErrorCount > errorsBefore { unsound.insert(entry.name) }
    }
  }

  /// The name is one, and nobody has it yet.
  private mutating func isFree(_ entry: YAMLNode.NamedEntry) -> Bool {
    do throws(TextError) {
      try AttachmentSpec.checkName(entry.name)
    } catch {
      diagnostics.report(at: entry.place, error.message, hint: error.hint)
      return true
    }
    if let first = names[entry.name] {
      diagnostics.report(
        at: entry.place, "the attachment \(entry.name.quoted()) is defined twice",
        hint: "it is defined first at \(first.cited)")
      return false
    }
    names[entry.name] = entry.place
    return true
  }

  private mutating func readAttachment(_ entry: YAMLNode.NamedEntry) {
    var draft = daemon.defaults
    draft.spec.name = entry.name
    if entry.value.isNull {
      diagnostics.report(
        at: entry.place, "the attachment \(entry.name.quoted()) has no `uri`",
        hint: "indent its keys deeper than its name, such as `uri: nbd://HOST/EXPORT`")
      return
    }
    guard entry.value.isMapping("the attachment \(entry.name.quoted())", &diagnostics) else { return }
    entry.value.read(attachmentKeys, into: &draft, &diagnostics, unknown: KeyHints.attachment) {
      draft, path, key, value in
      if let value { draft.places[path] = value }
      draft.ownKeys[path] = key
    }
    draft.check(at: entry.place, files, &diagnostics)
    claimDevice(draft)
    attachments.append(draft.spec)
  }

  /// Two attachments never name the same device.
  private mutating func claimDevice(_ draft: AttachmentDraft) {
    guard case .index(let index) = draft.spec.device, let place = draft.places["device"] else { return }
    if let owner = devices[index] {
      // Nobody can say which of the two was meant.
      unsound.insert(owner.name)
      diagnostics.report(
        at: place, "`/dev/nbd\(index)` belongs to the attachment \(owner.name.quoted()) already",
        hint: "it is named first at \(owner.place.cited)")
    } else {
      devices[index] = Owner(name: draft.spec.name, place: place)
    }
  }
}
