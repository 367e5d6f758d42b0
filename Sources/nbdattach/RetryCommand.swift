import ArgumentParser
import AttachmentModel
import Control

struct RetryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "retry",
    abstract: "Make what waits for its next try do it now.",
    discussion: """
      Does not wait for the outcome. Needs root.

      Exit status: 0 told, 1 there is no such attachment, 2 the daemon could not be asked.
      """)

  @Argument(help: "The attachment to try; all when none is named.", completion: attachmentNames)
  var name: String?

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    try daemon.ask { client throws(ControlError) in try client.retry(name) }
  }
}

struct ReconnectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reconnect",
    abstract: "Make all connections of attachments anew, under the input and output that goes on.",
    discussion: """
      For certificates and keys that were renewed: those that the files hold now are used. New connections are made \
      first; when they can't be had, all stays as it was. Where none is up it tries to make them now. Needs root.

      Exit status: 0 all are new, 1 those of some attachment are not, 2 the daemon could not be asked.
      """)

  @Argument(help: "The attachments to reconnect.", completion: attachmentNames)
  var names: [String]

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    var refused: ExitCode?
    for name in names {
      do {
        try daemon.ask { client throws(ControlError) in try client.reconnect(name) }
      } catch let status as ExitCode where status == .no {
        // The others need not suffer for it.
        refused = status
      }
    }
    if let refused { throw refused }
  }
}

struct RefreshCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "refresh",
    abstract: "Look at an export again, and grow its device.",
    discussion: """
      For an export that was made larger while it is attached: it does what reconnect does, so that nothing is \
      interrupted. Needs root.

      Exit status: 0 the device is as large as the export, 1 it is not, or there is no such attachment, 2 the daemon \
      could not be asked.
      """)

  @Argument(help: "The attachment to refresh.", completion: attachmentNames)
  var name: String

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    try daemon.ask { client throws(ControlError) in try client.refresh(name) }
  }
}

struct ReloadCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "reload",
    abstract: "Read the configuration again, and wait until it is in force.",
    discussion: """
      With errors in it the former one stays in force, and all of them are printed. Needs root.

      Exit status: 0 in force, 1 refused, 2 the daemon could not be asked.
      """)

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    try daemon.ask { client throws(ControlError) in try client.reload() }
  }
}

struct EndHoldingCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "end-holding",
    abstract: "Let input and output fail that waits for a server, when the system shuts down.",
    discussion: """
      From now until the daemon ends no attachment holds I/O longer than the time given, counted from now or from the \
      loss of its server. What is written and not yet on the server is lost then. nbdattach-shutdown.service runs this, \
      because a file system whose server is gone can't be unmounted otherwise. Needs root.

      Exit status: 0 told, 2 the daemon could not be asked.
      """)

  @Option(help: ArgumentHelp("How long I/O is still held, such as 10s.", valueName: "time"))
  var after = "10s"

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    guard let duration = (try? TimeSpan.parse(after)) ?? nil else {
      complain("--after \(printable(after)): not a time", hint: "write it like 500ms, 10s or 1min")
      throw ExitCode.validationFailure
    }
    try daemon.ask { client throws(ControlError) in try client.endHolding(after: duration) }
  }
}
