import Glibc
import Testing

@testable import Systemd

@Suite("log entries")
struct JournalTests {
  @Test("an entry carries message, priority, message ID and its fields, each its own buffer")
  func encoding() {
    let entry = JournalEntry(
      .warning, "data: connection lost", id: .reconnecting,
      fields: [.attachment: "data", .device: nil, .state: "reconnecting", .errno: "104"])
    #expect(
      entry.encoded.map { String(decoding: $0, as: UTF8.self) } == [
        "MESSAGE=data: connection lost", "PRIORITY=4", "MESSAGE_ID=\(MessageID.reconnecting.rawValue)",
        "NBD_ATTACHMENT=data", "NBD_STATE=reconnecting", "ERRNO=104",
      ])
  }

  @Test("a newline in a value stays within its own field")
  func newlineInValue() {
    let entry = JournalEntry(.info, "a\nPRIORITY=0", fields: [.export: "x\nNBD_STATE=attached"])
    #expect(
      entry.encoded.map { String(decoding: $0, as: UTF8.self) } == [
        "MESSAGE=a\nPRIORITY=0", "PRIORITY=6", "NBD_EXPORT=x\nNBD_STATE=attached",
      ])
  }

  @Test("every field's name is one that the journal takes", arguments: JournalField.allCases)
  func fieldNames(field: JournalField) {
    let allowed = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    #expect(field.rawValue.count <= 64)
    #expect(allowed.isSuperset(of: field.rawValue))
    #expect(field.rawValue.first?.isLetter == true)
  }

  @Test("a line of text has the priority's word and escapes what could steer a terminal")
  func line() {
    let entry = JournalEntry(.error, "a\u{1b}[31m\nb\u{202e}c\u{85}d\u{7f}\u{2028}ä")
    #expect(entry.line == "error: a\\u{1b}[31m\\u{a}b\\u{202e}c\\u{85}d\\u{7f}\\u{2028}ä\n")
  }

  @Test("priorities are numbered as syslog numbers them")
  func priorities() {
    #expect(JournalEntry.Priority.emergency.rawValue == 0)
    #expect(JournalEntry.Priority.error.rawValue == 3)
    #expect(JournalEntry.Priority.debug.rawValue == 7)
  }

  @Test("an entry can be sent where no journal listens")
  func send() throws {
    try Journal.send(JournalEntry(.debug, "test of nbdattach", id: .stopped, fields: [.attachment: "a\nb"]))
  }

  @Test("a log of one's own gets the entries as they are")
  func ownLog() async {
    await confirmation { taken in
      let log = Log { entry in
        #expect(entry == JournalEntry(.notice, "m", id: .attached, fields: [.attachment: "a"]))
        taken()
      }
      log(.notice, "m", id: .attached, fields: [.attachment: "a"])
    }
  }
}

@Suite("where log entries go")
struct LogDestinationTests {
  struct Case: CustomTestStringConvertible {
    var testDescription: String
    var variables: [String: String]
    var isTerminal = false
    var expected: LogDestination
  }

  static let cases = [
    Case(testDescription: "by hand", variables: [:], isTerminal: true, expected: .standardError),
    Case(
      testDescription: "standard error is the journal's stream", variables: ["JOURNAL_STREAM": "8:99"],
      expected: .journal),
    Case(
      testDescription: "the stream is another's", variables: ["JOURNAL_STREAM": "8:98"], expected: .standardError),
    Case(
      testDescription: "a service with its output in a file", variables: ["INVOCATION_ID": "f00"], expected: .journal),
    Case(
      testDescription: "a service that notifies", variables: ["NOTIFY_SOCKET": "/run/systemd/notify"],
      expected: .journal),
    Case(
      testDescription: "a shell in a terminal that is itself a service",
      variables: ["INVOCATION_ID": "f00", "JOURNAL_STREAM": "8:98"], isTerminal: true, expected: .standardError),
  ]

  @Test(arguments: cases)
  func detection(of case: Case) {
    let found = LogDestination.detected(
      variable: { `case`.variables[$0] }, standardErrorStream: "8:99", isTerminal: `case`.isTerminal)
    #expect(found == `case`.expected)
  }
}
