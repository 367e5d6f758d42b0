import AttachmentModel
import Foundation
import Testing

@testable import Configuration

/// The example, the manual page and the schema say what the tables of keys say.
@Suite("Documents of the configuration")
struct DocumentTests {
  private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  private func document(_ path: String) throws -> String {
    try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8)
  }

  private let attachment = attachmentKeys.flatMap { $0.descriptions() }
  private let defaultable = defaultableKeys.flatMap { $0.descriptions() }
  private let daemon = daemonKeys.flatMap { $0.descriptions() }

  @Test("each key's documented default is what leaving it out gives")
  func standards() {
    var draft = AttachmentDraft(spec: AttachmentSpec(name: "", servers: []))
    var diagnostics = Diagnostics()
    for description in attachment {
      guard let standard = description.standard else { continue }
      let names = description.path.split(separator: ".")
      let text = names.count == 2 ? "\(names[0]): { \(names[1]): \(standard) }" : "\(description.path): \(standard)"
      YAMLDocument(SourceFile(path: "a", bytes: Array(text.utf8)), &diagnostics)?.root?.read(
        attachmentKeys, into: &draft, &diagnostics, unknown: { _ in nil }, given: { _, _, _, _ in })
    }
    #expect(draft.spec == AttachmentSpec(name: "", servers: []))
    #expect(diagnostics.kept.isEmpty)
    let settings = load(
      ("nbdattachd.yaml", daemon.compactMap { key in key.standard.map { "\(key.path): \($0)\n" } }.joined()))
    #expect(settings.configuration?.daemon == DaemonSettings())
  }

  /// Removes the `#` in front of keys that are commented out.
  private func uncommented(_ text: String) -> String {
    text.replacing(/(?m)^(\s*)#(\s*)([a-z-]+:)(?=\s)/) { "\($0.1)\($0.2)\($0.3)" }
  }

  private func paths(_ node: YAMLNode, below prefix: String = "") -> [(path: String, text: String?)] {
    guard case .mapping(let entries) = node.content else { return [] }
    return entries.flatMap { entry -> [(path: String, text: String?)] in
      guard case .scalar(let name, _) = entry.key.content else { return [] }
      if case .scalar(let text, _) = entry.value.content { return [(prefix + name, text)] }
      return paths(entry.value, below: "\(prefix)\(name).")
    }
  }

  private func keys(_ text: String) throws -> [(path: String, text: String?)] {
    var diagnostics = Diagnostics()
    let document = YAMLDocument(SourceFile(path: "example", bytes: Array(text.utf8)), &diagnostics)
    #expect(diagnostics.kept.map(\.description) == [])
    return paths(try #require(document?.root))
  }

  @Test("the shipped files are right as they are, and attach nothing by themselves")
  func shipped() throws {
    let loaded = load(
      ("nbdattachd.yaml", try document("config/nbdattachd.yaml")),
      ("example.yaml", try document("config/attachments.d/example.yaml.example")))
    #expect(loaded.diagnostics.map(\.description) == [])
    #expect(loaded.configuration?.daemon == DaemonSettings())
    #expect(loaded.configuration?.attachments.count == 1)
    let files = try FileManager.default.contentsOfDirectory(
      atPath: Self.root.appendingPathComponent("config/attachments.d").path)
    #expect(files.filter { $0.hasSuffix(".yaml") } == [])
  }

  @Test("the example has every key of an attachment with its default and its form")
  func example() throws {
    let text = try document("config/attachments.d/example.yaml.example")
    let found = try keys(uncommented(text)).map { (String($0.path.dropFirst("attachments.example.".count)), $0.text) }
    #expect(found.map(\.0) == attachment.map(\.path))
    for (description, (path, value)) in zip(attachment, found) {
      if let standard = description.standard { #expect(value == standard, "\(path)") }
    }
    var forms = text.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }[...]
    for description in attachment {
      let line = forms.firstIndex { $0 == "# \(description.form)" || $0.hasPrefix("# \(description.form);") }
      #expect(line != nil, "\(description.path): \(description.form)")
      if let line { forms = forms[(line + 1)...] }
    }
  }

  @Test("the daemon's example has every key with its default, and every default that there can be")
  func daemonExample() throws {
    let text = try document("config/nbdattachd.yaml")
    let found = try keys(uncommented(text))
    #expect(
      found.map(\.path) == daemon.map(\.path).filter { $0 != "defaults" } + defaultable.map { "defaults.\($0.path)" })
    for description in daemon
      + defaultable.map({ KeyDescription(path: "defaults.\($0.path)", form: $0.form, standard: $0.standard) })
    {
      guard let standard = description.standard else { continue }
      #expect(found.first { $0.path == description.path }?.text == standard, "\(description.path)")
    }
    for description in daemon where description.path != "defaults" {
      #expect(text.contains("\n# \(description.form)\n"))
    }
  }

  /// `.It Ic KEY` and what follows it, in one section.
  private func items(_ section: String) throws -> [(key: String, body: String)] {
    let page = try document("packaging/man/nbdattach.yaml.5")
    let start = try #require(page.range(of: ".Ss \(section)\n"))
    let body = page[start.upperBound...].prefix(
      upTo: page[start.upperBound...].range(of: "\n.S[sh] ", options: .regularExpression)?.lowerBound ?? page.endIndex)
    return body.components(separatedBy: "\n.It Ic ").dropFirst().map { item in
      let lines = item.split(separator: "\n", maxSplits: 1)
      return (String(lines[0]), lines.count > 1 ? String(lines[1]) : "")
    }
  }

  @Test("the manual page has every key with its form, and its default")
  func manual() throws {
    for (section, descriptions) in [("Keys of an attachment", attachment), ("Keys of nbdattachd.yaml", daemon)] {
      let items = try items(section)
      #expect(items.map(\.key) == descriptions.map(\.path))
      for (description, item) in zip(descriptions, items) {
        #expect(item.body.contains("Takes: \(description.form).\n"), "\(description.path): \(description.form)")
        #expect(item.body.contains("Default: ") == (description.standard != nil), "\(description.path)")
        if let standard = description.standard {
          #expect(item.body.contains("Default: \(standard).\n"), "\(description.path)")
        }
      }
    }
  }

  @Test(
    "the manual page is without a fault to mandoc",
    .enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/mandoc"), "needs mandoc"))
  func mandoc() throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/mandoc")
    process.arguments = [
      "-T", "lint", "-W", "warning", Self.root.appendingPathComponent("packaging/man/nbdattach.yaml.5").path,
    ]
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(output == "")
    #expect(process.terminationStatus == 0)
  }

  @Test("the schema has every key with its default, and nothing else")
  func schema() throws {
    let object = try JSONSerialization.jsonObject(with: Data(try document("packaging/nbdattach.schema.json").utf8))
    let schema = try #require((object as? [String: Any])?["$defs"] as? [String: Any])
    try compare(schema["attachment"], attachment)
    try compare(schema["daemonFile"], daemon)
    let names = try #require((schema["defaults"] as? [String: Any])?["properties"] as? [String: Any]).keys
    #expect(names.sorted() == defaultableKeys.map(\.name).sorted())
  }

  private func compare(_ definition: Any?, _ descriptions: [KeyDescription]) throws {
    var found: [String: [String: Any]] = [:]
    func walk(_ value: Any?, _ prefix: String) throws {
      let definition = try #require(value as? [String: Any])
      #expect(definition["additionalProperties"] as? Bool == false, "\(prefix)")
      for (name, value) in try #require(definition["properties"] as? [String: [String: Any]]) {
        if value["properties"] != nil { try walk(value, "\(prefix)\(name).") } else { found[prefix + name] = value }
      }
    }
    try walk(definition, "")
    #expect(found.keys.sorted() == descriptions.map(\.path).sorted())
    for description in descriptions {
      let standard = found[description.path]?["default"].map { $0 as? Bool == false ? "false" : "\($0)" }
      #expect(standard == description.standard, "\(description.path)")
    }
  }
}
