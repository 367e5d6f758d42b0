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

  @Argument(help: "The attachment to show.")
  var name: String?

  @Flag(help: "Print JSON: what the Varlink method org.nbdattach.Status returns.")
  var json = false

  @Option(help: ArgumentHelp("The daemon's socket.", valueName: "path"))
  var socket = ControlServer.standardPath

  func run() throws {
    let document: StatusDocument
    do {
      document = try ControlClient(path: socket).status(of: name)
    } catch {
      complain(error.description, hint: error.hint)
      if case .noSuchAttachment = error { throw ExitCode.no }
      throw ExitCode.unreachable
    }
    for line in try json ? [document.prettyJSON()] : lines(document) { print(line) }
    if !document.attachments.allSatisfy(\.isAttached) { throw ExitCode.no }
  }

  private func lines(_ document: StatusDocument) -> [String] {
    let now = Date.now.timeIntervalSince1970
    if name != nil, let attachment = document.attachments.first {
      return StatusDetail(attachment, now: now).lines
    }
    return StatusTable(document, now: now).lines
  }
}

/// Says on standard error what went wrong, and what can be done about it.
func complain(_ message: String, hint: String?) {
  let text = "nbdattach: \(message)\n" + (hint.map { "hint: \($0)\n" } ?? "")
  let bytes = Array(text.utf8)
  _ = write(STDERR_FILENO, bytes, bytes.count)
}
