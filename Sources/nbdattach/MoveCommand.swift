import ArgumentParser
import Control

struct MoveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "move",
    abstract: "Move an attachment to another server, under the input and output that goes on.",
    discussion: """
      New connections are made first. Then what the old server holds is answered and flushed, and input and output go on \
      at the new one, which must have the same content: nbdattach copies nothing. The attachment keeps to that server, \
      also when the daemon is restarted, until its uri: is changed. Needs root.

      Exit status: 0 moved, 1 all is as it was, or there is no such attachment, 2 the daemon could not be asked.
      """)

  @Argument(help: "The attachment to move.", completion: attachmentNames)
  var name: String

  @Argument(help: "The server and export, such as nbd://HOST[:PORT]/EXPORT.")
  var uri: String

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    try daemon.ask { client throws(ControlError) in try client.move(name, to: uri) }
  }
}

struct AcknowledgeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "acknowledge",
    abstract: "Say that lost writes are known: the status shows them no longer.",
    discussion: """
      A server that has lost writes which it had acknowledged, and refuses them when they are sent again, has lost data \
      that programs believe written. The status says so until this. Needs root.

      Exit status: 0 told, 1 there is no such attachment, 2 the daemon could not be asked.
      """)

  @Argument(help: "The attachment that lost data.", completion: attachmentNames)
  var name: String

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    try daemon.ask { client throws(ControlError) in try client.acknowledge(name) }
  }
}
