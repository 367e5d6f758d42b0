/// Collects what is wrong, each thing once; keeps the first of each severity and counts the rest.
struct Diagnostics {
  /// The most that is kept of either severity.
  static let limit = 100

  private(set) var kept: [Diagnostic] = []
  private(set) var errorCount = 0
  private(set) var warningCount = 0
  /// Errors of what is declared, as opposed to those in files that it names.
  var ownErrorCount: Int { errorCount - namedFileErrorCount }
  private var namedFileErrorCount = 0

  /// `inNamedFile`: in the content of a file that a value names.
  mutating func report(
    _ severity: Diagnostic.Severity = .error, at place: Place, inNamedFile: Bool = false,
    _ message: @autoclosure () -> String, hint: @autoclosure () -> String? = nil
  ) {
    let before = errorCount
    defer { if inNamedFile { namedFileErrorCount += errorCount - before } }
    guard !isFull(severity) else { return count(severity) }
    keep(
      Diagnostic(
        severity, file: place.source.path, line: place.line, column: place.column, length: place.length,
        message: message(), hint: hint(), excerpt: place.source.excerpt(at: place)))
  }

  mutating func report(_ severity: Diagnostic.Severity = .error, file: String, _ message: String, hint: String? = nil) {
    guard !isFull(severity) else { return count(severity) }
    keep(Diagnostic(severity, file: file, message: message, hint: hint))
  }

  private func isFull(_ severity: Diagnostic.Severity) -> Bool {
    switch severity {
    case .error: errorCount >= Self.limit
    case .warning: warningCount >= Self.limit
    }
  }

  private mutating func count(_ severity: Diagnostic.Severity) {
    switch severity {
    case .error: errorCount += 1
    case .warning: warningCount += 1
    }
  }

  /// What comes from `defaults:` is met once for each attachment, and said once.
  private mutating func keep(_ diagnostic: Diagnostic) {
    guard !kept.contains(diagnostic) else { return }
    count(diagnostic.severity)
    kept.append(diagnostic)
  }

  /// Those of one file in the order of its lines, the files in the order given.
  func sorted(files: [String]) -> [Diagnostic] {
    var rank: [String: Int] = [:]
    for (index, file) in files.enumerated() where rank[file] == nil { rank[file] = index }
    let keyed = kept.enumerated().map { (rank[$1.file] ?? files.count, $1.line, $1.column, $0, $1) }
    return keyed.sorted { ($0.0, $0.1, $0.2, $0.3) < ($1.0, $1.1, $1.2, $1.3) }.map(\.4)
  }
}
