import ArgumentParser
import Attachment
import AttachmentModel
import Control
import NBDProtocol

struct InfoCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info",
    abstract: "Show what a server says of an export.",
    discussion: """
      Asks the server itself; needs neither the daemon nor root, and attaches nothing.

      Exit status: 0 the server has the export, 1 it refuses it, 2 it could not be asked, 64 wrong usage.
      """)

  @OptionGroup var question: ServerQuestion

  func run() async throws {
    let answer = try await question.ask { probe throws(Failure) in try await probe.export() }
    let document = ExportDocument(answer.value, answer.conversation)
    if question.json { return print(try prettyJSON(document)) }
    for (label, value) in document.lines { print("\(label.leftPadded(to: 12)): \(value)") }
  }
}

/// What `nbdattach info --json` prints. Sizes are in bytes.
private struct ExportDocument: Encodable {
  struct BlockSize: Encodable {
    let minimum: UInt32
    let preferred: UInt32
    let maximumPayload: UInt32
  }

  let export: String
  let size: UInt64
  let readOnly: Bool
  /// As proto.md names the flags, such as `NBD_FLAG_SEND_FLUSH`.
  let flags: [String]
  /// Left out where the server says nothing of it.
  let blockSize: BlockSize?
  let canonicalName: String?
  let description: String?
  /// How the server greets: `oldstyle`, `newstyle`, `fixed newstyle`.
  let style: String?
  /// The address that answered.
  let peer: String
  /// Such as `TLS 1.3, AES-256-GCM`; left out in clear.
  let tls: String?

  init(_ info: ExportInfo, _ conversation: Connector.Conversation) {
    export = info.name
    size = info.size
    readOnly = info.flags.contains(.readOnly)
    flags = info.flags.names
    blockSize = info.blockSizes.map {
      BlockSize(minimum: $0.minimum, preferred: $0.preferred, maximumPayload: $0.maximumPayload)
    }
    canonicalName = info.canonicalName
    description = info.description
    style = conversation.style?.rawValue
    peer = conversation.peer
    tls = conversation.security
  }

  var lines: [(String, String)] {
    var lines = [
      ("export", quoted(export)),
      ("size", "\(size) bytes (\(sizeText(Int64(clamping: size))))"),
      ("access", readOnly ? "read-only" : "read and write"),
    ]
    if let canonicalName { lines.append(("name", quoted(canonicalName))) }
    if let description { lines.append(("description", quoted(description, limit: 1000))) }
    let sizes = blockSize.map { "\($0.minimum) at least, \($0.preferred) preferred, \($0.maximumPayload) at most" }
    lines.append(("block size", sizes ?? "not said"))
    lines.append(("flags", flags.map { $0.trimmingPrefix("NBD_FLAG_") }.joined(separator: " ")))
    lines.append(("server", "\(peer), \(style ?? "unknown style")"))
    lines.append(("protection", tls ?? "none"))
    return lines
  }
}

extension String {
  fileprivate func leftPadded(to width: Int) -> String {
    String(repeating: " ", count: max(0, width - count)) + self
  }
}
