import ArgumentParser
import Attachment
import AttachmentModel
import NBDProtocol

/// What `list` and `info` have in common: a server to ask, and how an answer or its absence is shown.
struct ServerQuestion: ParsableArguments {
  @Argument(help: "Such as nbd://HOST[:PORT]/EXPORT or nbd+unix:///EXPORT?socket=PATH.")
  var uri: String

  @Flag(help: "Print JSON.")
  var json = false

  @Option(help: ArgumentHelp("Give up after this time, such as 500ms or 1min.", valueName: "time"))
  var timeout = "10s"

  /// Asks, and ends with the right status and a clear message when there is no answer.
  func ask<Answer>(_ question: (Probe) async throws(Failure) -> Answer) async throws -> Answer {
    let server: ServerURI
    do { server = try ServerURI(parsing: uri) } catch {
      complain("\(uri): \(error.message)", hint: error.hint)
      throw ExitCode.validationFailure
    }
    let limit: Duration
    do {
      guard let parsed = try TimeSpan.parse(timeout) else { throw ValidationError("a time limit can't be infinite") }
      limit = parsed
    } catch {
      complain("--timeout \(timeout): not a time", hint: "write it like 500ms, 10s or 1min")
      throw ExitCode.validationFailure
    }
    do throws(Failure) { return try await question(Probe(server, timeout: limit)) } catch {
      complain(error.message, hint: error.hint)
      throw error.phase == .negotiating && error.advice == .giveUp ? ExitCode.no : ExitCode.unreachable
    }
  }
}
