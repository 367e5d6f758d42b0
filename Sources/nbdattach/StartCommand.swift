import ArgumentParser
import Control

struct StartCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "start",
    abstract: "Attach what was stopped, and wait until it is attached.",
    discussion: """
      Does nothing but wait where it runs already. Ends at once when it can't be attached before something changes, and \
      says what. Needs root.

      Exit status: 0 attached (with --no-wait: started), 1 not, or there is no such attachment, 2 the daemon could not \
      be asked.
      """)

  @Argument(help: "The attachment to start.", completion: attachmentNames)
  var name: String

  @OptionGroup var waiting: Waiting
  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    let limit = try waiting.limit()
    try daemon.ask { client throws(ControlError) in try client.start(name, wait: waiting.wait, timeout: limit) }
  }
}

struct StopCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stop",
    abstract: "Detach one attachment.",
    discussion: """
      It stays stopped until it is started, or its configuration changes. A device that is mounted or used otherwise is \
      left alone, and what uses it is named. Needs root.

      Exit status: 0 detached, 1 not, or there is no such attachment, 2 the daemon could not be asked.
      """)

  @Argument(help: "The attachment to stop.", completion: attachmentNames)
  var name: String

  @Flag(help: "Take the device away even from what uses it, which then sees errors.")
  var force = false

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    try daemon.ask { client throws(ControlError) in try client.stop(name, force: force) }
  }
}

struct RestartCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restart",
    abstract: "Detach one attachment, and attach it again.",
    discussion: """
      A device that is mounted or used otherwise is left alone, and what uses it is named. Needs root.

      Exit status: 0 attached again (with --no-wait: started), 1 not, or there is no such attachment, 2 the daemon could \
      not be asked.
      """)

  @Argument(help: "The attachment to restart.", completion: attachmentNames)
  var name: String

  @OptionGroup var waiting: Waiting
  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    let limit = try waiting.limit()
    try daemon.ask { client throws(ControlError) in
      try client.restart(name)
      if waiting.wait { try client.start(name, wait: true, timeout: limit) }
    }
  }
}
