import ArgumentParser
import Control

@main
struct NBDAttachCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nbdattach",
    abstract: "Show what nbdattachd keeps attached.",
    discussion: """
      nbdattachd keeps network block devices attached as /etc/nbdattach declares them. This command shows how that \
      goes, and looks at configurations and servers.

      Exit status: 0 yes, 1 no (something shown is not attached, or a check found errors), 2 could not ask (no \
      daemon, no server, no permission), 64 wrong usage.
      """,
    version: programVersion,
    subcommands: [StatusCommand.self, CheckCommand.self, ListCommand.self, InfoCommand.self]
  )
}

extension ExitCode {
  /// Asked, and the answer is no.
  static let no = ExitCode(1)
  /// Could not ask.
  static let unreachable = ExitCode(2)
}
