import ArgumentParser
import Configuration
import Control
import Dispatch
import Supervision

@main
struct NBDAttachDCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nbdattachd",
    abstract: "Keep network block devices attached.",
    discussion: """
      Reads /etc/nbdattach/nbdattachd.yaml and the *.yaml in /etc/nbdattach/attachments.d and \
      /run/nbdattach/attachments.d, attaches what they declare, and keeps it attached. Usually started by systemd; by \
      hand it runs in the foreground and logs to standard error.

      SIGHUP reads the configuration again, SIGTERM and SIGINT detach everything and end.
      """,
    version: programVersion
  )

  @Option(
    help: ArgumentHelp(
      "Read this file or directory instead of the standard ones; may be given several times.", valueName: "path"))
  var config: [String] = []

  @Option(help: ArgumentHelp("Listen for nbdattach here.", valueName: "path"))
  var socket = ControlServer.standardPath

  @Flag(name: .shortAndLong, help: "Log debugging messages to standard error too.")
  var verbose = false

  func run() {
    // Before there is a second thread: each inherits it from the one that starts it.
    let problems = Daemon.enterIOPath()
    NBDAttachDCommand.serve(
      Daemon.Options(
        paths: config.isEmpty ? .standard : ConfigurationPaths(named: config), controlPath: socket, isVerbose: verbose),
      problems)
  }

  /// Apart from `run`, so that no closure in here is taken for the main actor's.
  private nonisolated static func serve(_ options: Daemon.Options, _ problems: [String]) -> Never {
    let daemon = Daemon(options, problems: problems)
    Task { @Sendable in await daemon.start() }
    dispatchMain()
  }
}
