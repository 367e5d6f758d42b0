import ArgumentParser
import Attachment
import AttachmentModel
import Control
import FoundationEssentials
import NBDProtocol

struct ListCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list",
    abstract: "List the exports of a server.",
    discussion: """
      Asks the server itself; needs neither the daemon nor root. An export that is named in the URI does not matter. \
      Servers may hide exports, or list names under which they have none.

      Exit status: 0 the server has listed its exports, 1 it refuses to or can't, 2 it could not be asked, 64 wrong \
      usage.
      """)

  @OptionGroup var question: ServerQuestion

  func run() async throws {
    let answer = try await question.ask { probe throws(Failure) in try await probe.exports() }
    if question.json {
      let document = ExportListDocument(
        exports: answer.value.map { ExportListDocument.Export(name: $0.name, description: $0.description) })
      return print(try prettyJSON(document))
    }
    for entry in answer.value {
      let name = entry.name.isEmpty ? "\"\" (the default export)" : printable(entry.name)
      print(entry.description.map { "\(name)\t\(printable($0))" } ?? name)
    }
  }
}

/// What `nbdattach list --json` prints.
private struct ExportListDocument: Encodable {
  struct Export: Encodable {
    let name: String
    let description: String?
  }

  let exports: [Export]
}

/// Sorted keys, one a line, so that it can be compared.
func prettyJSON(_ value: some Encodable) throws -> String {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  return String(decoding: try encoder.encode(value), as: UTF8.self)
}
