import AttachmentModel
import Testing

@testable import Configuration

@Suite("How errors look")
struct RenderingTests {
  @Test("all the errors of a run are shown with place, line, caret and hint")
  func golden() {
    let loaded = load(
      ("etc/nbdattachd.yaml", "startup-timeout: 30\ndefaults:\n  read-only: yes\n"),
      (
        "etc/attachments.d/a.yaml",
        """
        attachments:
          data:
            uri: nbd://storage1.example.com:70000/data
            reconect-timeout: 10s
            retry: { initial: 1min, maximum: 30s }
          scratch:
            uri: [nbd://h/x, 'nbd+unix:///x?sockett=/run/s']
            device: /dev/nbd3
        """
      ),
      (
        "etc/attachments.d/b.yaml",
        "attachments:\n  scratch: { uri: nbd://h/x }\n  more: { uri: nbd://h/x, device: /dev/nbd3 }\n"
      ))
    #expect(
      loaded.rendered(color: false) == """
        etc/nbdattachd.yaml:1:18: error: a span of time needs a unit
          1 | startup-timeout: 30
            |                  ^~
          hint: write `30s`
        etc/nbdattachd.yaml:3:14: error: `yes` is neither `true` nor `false`
          3 |   read-only: yes
            |              ^~~
          hint: write `true`
        etc/attachments.d/a.yaml:3:37: error: the port is not between 1 and 65535
          3 |     uri: nbd://storage1.example.com:70000/data
            |                                     ^~~~~
        etc/attachments.d/a.yaml:4:5: error: unknown key `reconect-timeout`
          4 |     reconect-timeout: 10s
            |     ^~~~~~~~~~~~~~~~
          hint: did you mean `reconnect-timeout`?
        etc/attachments.d/a.yaml:5:23: error: the first pause between tries, 1min, is longer than the longest, 30s
          5 |     retry: { initial: 1min, maximum: 30s }
            |                       ^~~~
          hint: `retry.maximum` is 30s, given at etc/attachments.d/a.yaml:5
        etc/attachments.d/a.yaml:7:37: error: unknown parameter `sockett`
          7 |     uri: [nbd://h/x, 'nbd+unix:///x?sockett=/run/s']
            |                                     ^~~~~~~
          hint: did you mean `socket`?
        etc/attachments.d/b.yaml:2:3: error: the attachment `scratch` is defined twice
          2 |   scratch: { uri: nbd://h/x }
            |   ^~~~~~~
          hint: it is defined first at etc/attachments.d/a.yaml:6
        etc/attachments.d/b.yaml:3:35: error: `/dev/nbd3` belongs to the attachment `scratch` already
          3 |   more: { uri: nbd://h/x, device: /dev/nbd3 }
            |                                   ^~~~~~~~~
          hint: it is named first at etc/attachments.d/a.yaml:8
        """)
    #expect(loaded.configuration == nil)
    #expect(loaded.summary == "4 attachments in 3 files: 8 errors")
  }

  @Test("one line is enough for the journal")
  func oneLine() {
    let diagnostic = load("attachments:\n  x: { uri: nbd://h, divice: auto }\n").diagnostics.first
    #expect(diagnostic?.description == "a.yaml:2:22: error: unknown key `divice` (did you mean `device`?)")
  }

  @Test("color is added only where it is wanted")
  func color() {
    let diagnostic = Diagnostic(
      .warning, file: "f", line: 3, column: 2, length: 2, message: "m", hint: "h",
      excerpt: Diagnostic.Excerpt(text: "abcd", caret: 1..<3))
    #expect(diagnostic.rendered(color: false) == "f:3:2: warning: m\n  3 | abcd\n    |  ^~\n  hint: h")
    let colored = diagnostic.rendered(color: true)
    #expect(colored.contains("\u{1B}[1;35mwarning:\u{1B}[0m"))
    #expect(colored.contains("\u{1B}[1;32m^~\u{1B}[0m"))
  }

  @Test("nothing in a file or its name can act on the terminal")
  func escapes() {
    let text = "attachments:\n  x: { uri: \"\\e[31m\", \u{202E}evil: 1, \"a\\nb\": 2 }\n"
    let loaded = load(("\u{1B}[2J.yaml", text))
    #expect(loaded.errorCount == 3)
    for scalar in loaded.rendered(color: false).unicodeScalars where scalar != "\n" {
      #expect(scalar.isSafeToShow)
    }
  }

  @Test("of a long line the part around the place is shown, the caret below it")
  func longLine() throws {
    let padding = String(repeating: "p", count: 3000)
    let loaded = load("attachments: { x: { uri: nbd://h/\(padding), bad: 1 } }\n")
    let excerpt = try #require(loaded.diagnostics.first?.excerpt)
    #expect(excerpt.text.unicodeScalars.count == 160)
    let marked = Array(excerpt.text)[excerpt.caret]
    #expect(String(marked) == "bad")
  }

  @Test("characters count as one column each, however many bytes they have")
  func columns() {
    let loaded = load("attachments:\n  x: { uri: nbd://h, expect: { größe: 1 }, '漢字': 2, bad: 3 }\n")
    #expect(loaded.diagnostics.map(\.column) == [32, 44, 53])
  }

  @Test("a byte order mark and CRLF line ends change no column")
  func windows() {
    let loaded = load("\u{FEFF}attachments:\r\n  x: { uri: nbd://h, bad: 3 }\r\n")
    #expect(loaded.places == ["2:22 unknown key `bad`"])
    #expect(loaded.diagnostics.first?.excerpt?.text == "  x: { uri: nbd://h, bad: 3 }")
  }

  @Test("100 errors are shown, and the number of the others")
  func bound() {
    let lines = (0..<250).map { "  x\($0): { uri: nbd://h, bad: 1 }\n" }
    let loaded = load("attachments:\n" + lines.joined())
    #expect(loaded.errorCount == 250)
    #expect(loaded.diagnostics.count == 100)
    #expect(loaded.rendered(color: false).hasSuffix("\nand 150 more"))
  }

  @Test("an error of the defaults is said once, not for each attachment")
  func defaultsOnce() {
    let loaded = load(
      ("nbdattachd.yaml", "defaults: { retry: { initial: 1min } }\n"),
      ("a.yaml", "attachments:\n  a: { uri: nbd://h/a }\n  b: { uri: nbd://h/b }\n"))
    #expect(loaded.places == ["1:31 the first pause between tries is longer than the longest"])
  }
}
