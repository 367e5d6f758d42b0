/// What came of reading the configuration: all of it, or what is wrong with it.
package struct LoadedConfiguration: Equatable, Sendable {
  /// `nil` when there is any error.
  package var configuration: Configuration?
  /// What is right of it: the attachments without an error of their own. For a daemon that starts: one mistake in one file must not
  /// keep all the others from their devices.
  package var sound: Configuration
  /// Errors and warnings in the order of files and lines, at most 100 of either.
  package var diagnostics: [Diagnostic]
  /// Errors found, those beyond the bound included.
  package var errorCount: Int
  /// Warnings found, those beyond the bound included.
  package var warningCount: Int
  /// Files read, whether right or wrong.
  package var fileCount: Int
  /// Attachments met, whether right or wrong.
  package var attachmentCount: Int
}

extension LoadedConfiguration {
  /// Every diagnostic for a terminal, and how many more there are; empty where nothing is wrong.
  package func rendered(color: Bool) -> String {
    var parts = diagnostics.map { $0.rendered(color: color) }
    let omitted = errorCount + warningCount - diagnostics.count
    if omitted > 0 { parts.append("and \(omitted) more") }
    return parts.joined(separator: "\n")
  }

  /// One line: `3 attachments in 2 files: no errors`.
  package var summary: String {
    func number(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }
    let warnings = warningCount == 0 ? "" : ", " + number(warningCount, "warning")
    return number(attachmentCount, "attachment") + " in " + number(fileCount, "file") + ": "
      + (errorCount == 0 ? "no errors" : number(errorCount, "error")) + warnings
  }
}
