import ArgumentParser
import Control

@main
struct NBDAttachCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nbdattach",
    abstract: "Show and steer what nbdattachd keeps attached.",
    discussion: """
      nbdattachd keeps network block devices attached as /etc/nbdattach declares them. This command shows how that \
      goes, steers it, and looks at configurations and servers.

      Exit status: 0 yes or done, 1 no (something shown is not attached, a check found errors, or it was not done), 2 \
      could not ask (no daemon, no server, no permission), 64 wrong usage.
      """,
    version: programVersion,
    groupedSubcommands: [
      CommandGroup(
        name: "Attachment",
        subcommands: [
          StatusCommand.self, StartCommand.self, StopCommand.self, RestartCommand.self, RetryCommand.self,
          ReconnectCommand.self, RefreshCommand.self, MoveCommand.self, AcknowledgeCommand.self,
        ]),
      CommandGroup(name: "Daemon", subcommands: [ReloadCommand.self, MetricsCommand.self, EndHoldingCommand.self]),
      CommandGroup(
        name: "Configuration and server", subcommands: [CheckCommand.self, ListCommand.self, InfoCommand.self]),
    ]
  )
}

extension ExitCode {
  /// Asked, and the answer is no.
  static let no = ExitCode(1)
  /// Could not ask.
  static let unreachable = ExitCode(2)
}
