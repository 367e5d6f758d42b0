import ArgumentParser
import Configuration
@preconcurrency import Glibc

/// `nbdattach check`: reads the configuration as the daemon would, and says all that is wrong with it.
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check configuration files without touching anything that runs.",
    discussion: """
      Reads what the daemon would read, or only the files and directories that are named, and prints every \
      error and warning with its place. Needs neither the daemon nor root.

      Exit status: 0 without errors, 1 with errors, 64 for wrong usage.
      """)

  @Argument(
    help: ArgumentHelp(
      "Files, or directories of them, instead of those of the daemon.",
      discussion: "A file named nbdattachd.yaml is the daemon's; any other holds attachments."),
    completion: .file())
  var paths: [String] = []

  func run() throws {
    let loaded = ConfigurationLoader.load(paths.isEmpty ? .standard : ConfigurationPaths(named: paths))
    let color = isatty(STDERR_FILENO) == 1 && getenv("NO_COLOR") == nil
    let text = loaded.rendered(color: color)
    if !text.isEmpty { fputs(text + "\n", stderr) }
    print(loaded.summary)
    if loaded.errorCount > 0 { throw ExitCode(1) }
  }
}
