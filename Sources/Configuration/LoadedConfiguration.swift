/// What came of reading the configuration: all of it, or what is wrong with it.
package struct LoadedConfiguration: Equatable, Sendable {
  /// `nil` when there is any error.
  package var configuration: Configuration?
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
