/// One entry of the log: what `journalctl` shows, and the fields that it finds entries by.
package struct JournalEntry: Equatable, Sendable {
  /// How urgent, as syslog(3) numbers it.
  package enum Priority: Int, CaseIterable, Sendable {
    case emergency
    case alert
    case critical
    case error
    case warning
    case notice
    case info
    case debug
  }

  package var priority: Priority
  /// One line for a person, no full stop at the end.
  package var message: String
  /// What kind of event this is; `journalctl -x` explains it from the catalog.
  package var messageID: MessageID?
  package var fields: [Field]

  /// A field and its value, which may hold anything, newlines too.
  package struct Field: Equatable, Sendable {
    package var name: JournalField
    package var value: String
  }

  /// Fields whose value is `nil` are left out.
  package init(
    _ priority: Priority, _ message: String, id: MessageID? = nil,
    fields: KeyValuePairs<JournalField, String?> = [:]
  ) {
    self.priority = priority
    self.message = message
    messageID = id
    self.fields = fields.compactMap { name, value in value.map { Field(name: name, value: $0) } }
  }

  /// The fields as the journal takes them, `NAME=value`, each its own buffer.
  var encoded: [[UInt8]] {
    var lines = ["MESSAGE=" + message, "PRIORITY=\(priority.rawValue)"]
    if let messageID { lines.append("MESSAGE_ID=" + messageID.rawValue) }
    lines += fields.map { "\($0.name.rawValue)=\($0.value)" }
    return lines.map { Array($0.utf8) }
  }

  /// The entry as one line of text, `warning: MESSAGE`, newline at the end; control characters are escaped.
  var line: String {
    var text = String.UnicodeScalarView()
    for scalar in "\(priority): \(message)".unicodeScalars {
      switch scalar.properties.generalCategory {
      // Format characters include those that turn the direction of text around.
      case .control, .format, .lineSeparator, .paragraphSeparator:
        text.append(contentsOf: "\\u{\(String(scalar.value, radix: 16))}".unicodeScalars)
      default:
        text.append(scalar)
      }
    }
    return String(text) + "\n"
  }
}

/// Every field that our entries carry, besides MESSAGE, PRIORITY and MESSAGE_ID.
package enum JournalField: String, CaseIterable, Sendable {
  /// The attachment's name.
  case attachment = "NBD_ATTACHMENT"
  /// `/dev/nbd0`.
  case device = "NBD_DEVICE"
  /// The server's URI.
  case server = "NBD_SERVER"
  /// The export's name.
  case export = "NBD_EXPORT"
  /// The state just entered.
  case state = "NBD_STATE"
  /// The state just left.
  case previousState = "NBD_PREVIOUS_STATE"
  /// The phase of the failure: `resolving`, `connecting`, …
  case phase = "NBD_PHASE"
  /// A decimal errno.
  case errno = "ERRNO"
}
