import ArgumentParser
import AttachmentModel
import Control

/// What the commands that ask the daemon have in common: where it listens, and how a refusal is shown.
struct DaemonQuestion: ParsableArguments {
  @Option(help: ArgumentHelp("The daemon's socket.", valueName: "path"))
  var socket = ControlServer.standardPath

  /// Asks, and ends with the right status and a clear message when the daemon can't be asked, or refuses.
  @discardableResult
  func ask<Answer>(_ question: (ControlClient) throws(ControlError) -> Answer) throws -> Answer {
    do throws(ControlError) { return try question(ControlClient(path: socket)) } catch {
      throw complain(of: error)
    }
  }

  /// Says what went wrong; the status to end with.
  func complain(of error: ControlError) -> ExitCode {
    if case .action(.configurationRefused(let errors)) = error {
      for text in errors { complainOf(printable(text)) }
    }
    nbdattach.complain(error.description, hint: error.hint)
    if case .action = error { return .no }
    return .unreachable
  }

  private func complainOf(_ text: String) { nbdattach.complain(text, hint: nil) }
}

/// An attachment's name, which the shell completes by asking the daemon.
let attachmentNames = CompletionKind.custom { words, _, _ in
  let named = zip(words, words.dropFirst()).first { option, _ in option == "--socket" }?.1
  // A shell that hangs is worse than one that completes nothing.
  let client = ControlClient(path: named ?? ControlServer.standardPath, timeout: .seconds(1))
  return (try? client.status())?.attachments.map(\.name) ?? []
}

/// Whether, and how long, to wait until an attachment is attached.
struct Waiting: ParsableArguments {
  @Flag(inversion: .prefixedNo, help: "Wait until it is attached.")
  var wait = true

  @Option(help: ArgumentHelp("Wait no longer than this, such as 500ms, 1min or infinity.", valueName: "time"))
  var timeout = "30s"

  /// `nil`: for ever.
  func limit() throws -> Duration? {
    do { return try TimeSpan.parse(timeout) } catch {
      complain("--timeout \(printable(timeout)): not a time", hint: "write it like 500ms, 10s, 1min or infinity")
      throw ExitCode.validationFailure
    }
  }
}
