import Testing

@testable import Configuration

@Suite("Slips in YAML")
struct SyntaxErrorTests {
  struct Slip: CustomTestStringConvertible, Sendable {
    var text: String
    var place: String
    var message: String
    var hint: String?
    var testDescription: String { text.debugDescription }

    init(_ text: String, _ place: String, _ message: String, _ hint: String? = nil) {
      self.text = text
      self.place = place
      self.message = message
      self.hint = hint
    }
  }

  private static let head = "attachments:\n  data:\n"

  static let slips = [
    Slip("attachments:\n\tdata:\n", "2:1", "the line is indented with a tab", "YAML is indented with spaces"),
    Slip(head + "\t  uri: x\n", "3:1", "the line is indented with a tab", "YAML is indented with spaces"),
    Slip("a: |\n\tx\n", "2:1", "the line is indented with a tab", "YAML is indented with spaces"),
    Slip("attachments:\n  data\n    uri: x\n", "2:3", "a colon is missing after `data`", "write `data:`"),
    Slip(
      head + "    uri nbd://h/x\n    device: auto\n", "3:5", "a colon is missing after `uri`", "write `uri: nbd://h/x`"),
    Slip(
      head + "    device: auto\n    uri nbd://h/x\n", "4:5", "a colon is missing after `uri`", "write `uri: nbd://h/x`"),
    Slip(
      head + "    uri:nbd://h/x\n    device: auto\n", "3:5", "a space is missing after the colon",
      "write `uri: nbd://h/x`"),
    Slip(
      head + "    device:/dev/nbd0\n", "3:5",
      "the attachment `data` is a mapping of keys and values, not `device:/dev/nbd0`",
      "a space is missing after the colon: write `device: /dev/nbd0`"),
    Slip(
      "attachments:\n  data: nbd://h/x\n", "2:9",
      "the attachment `data` is a mapping of keys and values, not `nbd://h/x`", "write `uri: nbd://h/x`"),
    Slip(
      head + "    uri: x\n   device: auto\n", "4:4",
      "the line is indented differently from those above that it belongs to",
      "begin it in column 5 as the line above, or in column 3"),
    Slip(
      head + "    uri: x\n      device: auto\n", "4:7",
      "the line is indented deeper than the one before, which has its value already",
      "begin it in column 5, below `uri`"),
    Slip(
      head + "    uri: nbd: //h\n", "3:13", "a second `: ` follows in the same line",
      "put a value that contains `: ` in quotes"),
    Slip(head + "    uri: \"nbd://h\n    device: auto\n", "3:10", "the quote is not closed"),
    Slip(
      head + "    uri: \"nbd://h\" x\n", "3:20", "`x` follows a value that is complete", "put the whole value in quotes"
    ),
    Slip(head + "    retry: { initial: 1s\n    device: x\n", "3:12", "`{` is not closed by `}`"),
    Slip(head + "    uri: [a, b\n    device: x\n", "3:10", "`[` is not closed by `]`"),
    Slip(head + "    retry: { initial: 1s maximum: 2s }\n", "3:33", "a comma or `}` is missing before this"),
    Slip(head + "    uri: @x\n", "3:10", "a value can't begin with `@`", "put the value in quotes"),
    Slip(head + "    uri: *\n", "3:10", "a value can't begin with `*`", "put the value in quotes"),
    Slip(
      head + "    uri: - a\n", "3:10", "a list can't begin behind a key",
      "put each `- item` on a line of its own, or write `[a, b]`"),
    Slip(head + "    uri:\n      - a\n      b\n", "5:7", "a dash is missing before `b`", "write `- b`"),
    Slip(head + "    uri:\n    - a\n    b: c\n    - d\n", "6:5", "`-` stands where a key is expected"),
    Slip(
      head + "    uri: \"a\\qb\"\n", "3:12", "a backslash in double quotes begins an escape, and this is none",
      "write `\\\\` for a backslash, or use single quotes"),
    Slip(
      "  attachments:\n    a: b\nx: y\n", "3:1", "the line is indented less than the first one of the file",
      "begin both in the same column; the first begins in column 3"),
    Slip("}\n", "1:1", "a value is expected, and `}` is none", "put the value in quotes"),
    Slip("a: |x\n", "1:5", "nothing but a comment may follow `|` or `>` in its line"),
    Slip("hello\nattachments:\n", "1:1", "a colon is missing after `hello`", "write `hello:`"),
    Slip("%YAML 1.2\n---\n", "1:1", "directives, lines that begin with %, are not read", "remove the line"),
    Slip(
      "--- {}\n--- {}\n", "2:1", "the file has more than one document",
      "only one is read: remove the line `---`, or write a second file"),
    Slip(
      head + "    uri: !!str x\n", "3:10", "tags such as `tag:yaml.org,2002:str` are not read",
      "a text that begins with ! stands in quotes"),
    Slip(
      head + "    uri: !a!b x\n", "3:10", "tags such as `!name` are not read",
      "a text that begins with ! stands in quotes"),
    Slip(
      head + "    uri: &a x\n", "3:10", "anchors such as `&a` are not read",
      "a text that begins with & stands in quotes"),
    Slip(
      head + "    uri: *a\n", "3:10", "aliases such as `*a` are not read",
      "write the value out, or put what all attachments share under `defaults:` in nbdattachd.yaml"),
    Slip(
      head + "    uri: nbd://h\n    <<: {}\n", "4:5", "merge keys are not read",
      "put what all attachments share under `defaults:` in nbdattachd.yaml"),
  ]

  @Test("each is explained where it was made", arguments: slips)
  func explained(slip: Slip) {
    let loaded = load(slip.text)
    #expect(loaded.places == ["\(slip.place) \(slip.message)"])
    #expect(loaded.diagnostics.first?.hint == slip.hint)
    #expect(loaded.configuration == nil)
  }

  @Test(
    "what is no mapping, or the wrong one, is said",
    arguments: [
      ("- a\n", "1:1 the file is a mapping of keys and values, not a list"),
      ("hello\n", "1:1 the file is a mapping of keys and values, not `hello`"),
      ("attachments:\n  - name: x\n", "2:3 `attachments` is a mapping from names to attachments, not a list"),
      ("attachments: x\n", "1:14 `attachments` is a mapping of keys and values, not `x`"),
      ("attachments:\n  x: [a]\n", "2:6 the attachment `x` is a mapping of keys and values, not a list"),
      ("attachments:\n  x:\n", "2:3 the attachment `x` has no `uri`"),
      ("attachments:\n  x: {}\n", "2:3 the attachment `x` has no `uri`"),
      ("attachments:\n  [a]: {}\n", "2:3 a key is a text, not a list"),
      ("attachments:\n  uri: nbd://h\n", "2:8 the attachment `uri` is a mapping of keys and values, not `nbd://h`"),
      ("attachments:\n  a b: { uri: nbd://h }\n", "2:3 ` ` may not stand in a name"),
      ("attachments:\n  .a: { uri: nbd://h }\n", "2:3 a name may not begin with `.`"),
      ("attachments:\n  a-part1: { uri: nbd://h }\n", "2:3 a name may not end with `-part1`"),
      ("attachments:\n  -part: { uri: nbd://h }\n", "2:3 a name may not begin with `-`"),
      ("attachments:\n  a: { uri: nbd://h }\n  a: { uri: nbd://h }\n", "3:3 `a` is given twice"),
      ("attachments: {}\nattachments: {}\n", "2:1 `attachments` is given twice"),
      ("attachments:\n  a: { uri: nbd://h, uri: nbd://i }\n", "2:22 `uri` is given twice"),
      ("attachment: {}\n", "1:1 unknown key `attachment`"),
    ])
  func structure(text: String, place: String) {
    #expect(load(text).places == [place])
  }

  @Test(
    "a key in the wrong place is sent to the right one",
    arguments: [
      ("a.yaml", "defaults: {}\n", "`defaults` stands in nbdattachd.yaml"),
      ("a.yaml", "stop-timeout: 1s\n", "`stop-timeout` stands in nbdattachd.yaml"),
      ("a.yaml", "uri: nbd://h\n", "an attachment's keys stand below its name, and that below `attachments:`"),
      (
        "a.yaml", "data: { uri: nbd://h }\n",
        "begin the file with `attachments:`, and indent the names of the attachments below it"
      ),
      ("a.yaml", "attachments: { a: { uri: nbd://h, ca-file: /x } }\n", "`ca-file` stands below `tls:`"),
      ("a.yaml", "attachments: { a: { uri: nbd://h, size: 1 } }\n", "`size` stands below `expect:`"),
      (
        "a.yaml", "attachments: { a: { uri: nbd://h, export: e } }\n",
        "server and export are part of the `uri`, such as `nbd://HOST:PORT/EXPORT`"
      ),
      ("nbdattachd.yaml", "attachments: {}\n", "attachments stand in files of their own, in attachments.d"),
      ("nbdattachd.yaml", "read-only: true\n", "what holds for all attachments stands below `defaults:`"),
      ("nbdattachd.yaml", "defaults: { uri: nbd://h }\n", "it is each attachment's own"),
      ("nbdattachd.yaml", "defaults: { device: auto }\n", "it is each attachment's own"),
      ("nbdattachd.yaml", "stop-timeuot: 1s\n", "did you mean `stop-timeout`?"),
    ])
  func misplaced(file: String, text: String, hint: String) {
    let loaded = load((file, text))
    #expect(loaded.errorCount == 1)
    #expect(loaded.diagnostics.first?.hint == hint)
  }

  @Test(
    "files with nothing in them are fine",
    arguments: ["", "\n", "# only a comment\n", "---\n", "attachments:\n", "attachments: {}\n", "\u{FEFF}", "~\n"])
  func empty(text: String) {
    let loaded = load(("nbdattachd.yaml", ""), ("a.yaml", text))
    #expect(loaded.configuration == Configuration())
    #expect(loaded.diagnostics.isEmpty)
  }
}
