import AttachmentModel

@testable import Configuration

/// Loads texts by their paths; the daemon's file is the one of that name.
func load(
  _ files: (String, String)..., keyFiles: @escaping KeyFileInspector = { _ in .file(owner: 0, mode: 0o600) },
  credentials: @escaping CredentialInspector = { _ in [] }
) -> LoadedConfiguration {
  ConfigurationLoader.load(
    files: files.map { ConfigurationFile(path: $0.0, bytes: Array($0.1.utf8)) }, keyFiles: keyFiles,
    credentials: credentials)
}

/// Loads one file of attachments.
func load(_ text: String) -> LoadedConfiguration { load(("a.yaml", text)) }

/// Loads one attachment `x`, given the lines of its keys.
func loadAttachment(_ lines: String...) -> LoadedConfiguration {
  load("attachments:\n  x:\n" + lines.map { "    \($0)\n" }.joined())
}

extension LoadedConfiguration {
  /// `LINE:COLUMN MESSAGE` of each diagnostic.
  var places: [String] { diagnostics.map { "\($0.line):\($0.column) \($0.message)" } }
}
