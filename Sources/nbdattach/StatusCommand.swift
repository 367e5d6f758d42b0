import ArgumentParser
import Control
import FoundationEssentials
import Glibc

struct StatusCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "status",
    abstract: "Show the attachments and how they are.",
    discussion: """
      Without NAME a line for each attachment, and below it why it is not attached; with NAME all that is known of it.
      Asks the running daemon: as root, or as a member of the group nbdattach.

      Exit status: 0 everything shown is attached, 1 something is not, or there is no such attachment, 2 the daemon \
      could not be asked.
      """
  )

  @Argument(help: "The attachment to show.", completion: attachmentNames)
  var name: String?

  @Flag(help: "Print JSON: what the Varlink method org.nbdattach.Status returns.")
  var json = false

  @Flag(
    help: ArgumentHelp(
      "Go on showing changes until interrupted.",
      discussion: "A terminal is drawn anew; anywhere else each change is a line."))
  var watch = false

  @OptionGroup var daemon: DaemonQuestion

  func validate() throws {
    if watch && json { throw ValidationError("--watch prints no JSON; call the method Status again and again") }
  }

  func run() throws {
    let document = try daemon.ask { client throws(ControlError) in try client.status(of: name) }
    if watch {
      let watcher = StatusWatcher(name: name, daemon: daemon)
      if isatty(STDOUT_FILENO) == 1 { watcher.redraw(document) } else { watcher.printChanges(since: document) }
    }
    let lines = try json ? [document.prettyJSON()] : document.lines(only: name, now: Date.now.timeIntervalSince1970)
    for line in lines { print(line) }
    if !document.attachments.allSatisfy(\.isAttached) { throw ExitCode.no }
  }
}

extension StatusDocument {
  /// What a person reads: of the one attachment called `name`, or of all.
  func lines(only name: String?, now: Double) -> [String] {
    if name != nil, let attachment = attachments.first { return StatusDetail(attachment, now: now).lines }
    return StatusTable(self, now: now).lines
  }
}

/// Says on standard error what went wrong, and what can be done about it.
func complain(_ message: String, hint: String?) {
  let text = "nbdattach: \(message)\n" + (hint.map { "hint: \($0)\n" } ?? "")
  let bytes = Array(text.utf8)
  _ = write(STDERR_FILENO, bytes, bytes.count)
}
