import AttachmentModel
import Testing

@testable import Control

@Suite("the status sentence")
struct StatusSentenceTests {
  @Test("counts what is attached and names what is not")
  func mixed() {
    let attached = (1...12).map { attachedReport("a\($0)") }
    let sentence = snapshot(attached + [fullReport("data", state: .reconnecting)]).sentence
    #expect(sentence == "12 attached, 1 reconnecting (data)")
  }

  @Test("says so where nothing is configured")
  func empty() {
    #expect(snapshot().sentence == "no attachments configured")
  }

  @Test("stays short with a thousand attachments")
  func bounded() {
    let reports = (0..<1000).map { fullReport("export-\(1000 + $0)", state: .waiting) }
    #expect(snapshot(reports).sentence == "1000 waiting (export-1000, export-1001, export-1002 and 997 more)")
  }

  @Test("has every state in it", arguments: AttachmentReport.State.allCases)
  func everyState(state: AttachmentReport.State) {
    #expect(snapshot([fullReport("x", state: state)]).sentence.hasPrefix("1 \(state)"))
  }

  @Test("says that data is lost, and whose")
  func dataLost() {
    #expect(
      snapshot([attachedReport("a"), relayedReport("b", state: .attached)]).sentence == "2 attached; data lost (b)")
  }

  @Test("says that the configuration has errors")
  func configurationError() {
    #expect(
      snapshot([attachedReport()], configurationError: "a.yaml:1:1: …").sentence
        == "1 attached; the configuration has errors")
  }
}

@Suite("the status table")
struct StatusTableTests {
  private func table(_ snapshot: StatusSnapshot) -> String {
    StatusTable(StatusDocument(snapshot), now: sampleNow).lines.joined(separator: "\n")
  }

  @Test("has a line for each attachment, and below it why it is not attached")
  func golden() {
    var scratch = AttachmentReport(name: "scratch", state: .connecting, since: sampleNow)
    scratch.activity = "negotiating with nbd://storage1.example.com/scratch"
    #expect(
      table(snapshot([scratch, attachedReport("a-long-name"), fullReport("data")])) == """
        NAME         STATE       DEVICE     SIZE    SERVER                           SINCE
        a-long-name  attached    /dev/nbd0  10 GiB  nbd://storage1.example.com/data  3h 12min
        data         waiting     /dev/nbd0  10 GiB  nbd://storage1.example.com/data  3h 12min
          connecting: connection refused; connecting to storage1.example.com; next try in 5s
          hint: is the server running?
        scratch      connecting  -          -       -                                now
          negotiating with nbd://storage1.example.com/scratch
        """)
  }

  @Test("says so where nothing is configured")
  func empty() {
    #expect(table(snapshot()) == "No attachments are configured.")
  }

  @Test("says of an attachment that works why it is only kept for the time being")
  func kept() {
    var report = attachedReport()
    report.activity = "removed from the configuration, and kept while mounted on /srv"
    #expect(table(snapshot([report])).hasSuffix("\n  removed from the configuration, and kept while mounted on /srv"))
  }

  @Test("says of an attachment that works that its links are not as declared")
  func notAsDeclared() {
    var report = attachedReport()
    report.renewalFailure = Failure(.negotiating, "the server refused TLS", hint: "has it any?", advice: .giveUp)
    #expect(
      table(snapshot([report])).split(separator: "\n").dropFirst(2) == [
        "  its links are not as declared, because new ones can't be had: negotiating: the server refused TLS",
        "  hint: has it any?",
      ])
  }

  @Test("says of an attachment that works that it stalls, and that data is lost")
  func warnings() {
    var report = attachedReport()
    report.stalledSince = sampleNow - 45
    report.dataLossCount = 3
    #expect(
      table(snapshot([report])).split(separator: "\n").dropFirst(2) == [
        "  stalled: a request has waited 45s for its answer",
        "  DATA LOST: the server has lost acknowledged writes: 3",
        "  hint: nbdattach status data shows which; nbdattach acknowledge data ends this",
      ])
  }

  @Test("says what is wrong with the configuration")
  func configurationError() {
    let text = table(snapshot([attachedReport()], configurationError: "a.yaml:3:1: unknown key\nfoo"))
    #expect(text.contains("\n\nThe configuration has errors: a.yaml:3:1: unknown key\\u{a}foo\nhint: "))
  }

  @Test("a hostile text can neither steer the terminal nor add a line nor widen the table")
  func hostile() {
    var report = fullReport("evil")
    report.server = "nbd://h/\u{1b}]0;owned\u{7}\nroot attached" + String(repeating: "x", count: 4000)
    report.device = "/dev/\u{9b}31m"
    report.activity = "a\r\u{202e}b"
    report.failure = Failure(.negotiating, "m\u{1b}[2J\n", hint: "h\u{0}\u{2028}", advice: .giveUp)
    for line in StatusTable(StatusDocument(snapshot([report])), now: sampleNow).lines
      + StatusDetail(StatusDocument(snapshot([report])).attachments[0], now: sampleNow).lines
    {
      #expect(line.unicodeScalars.allSatisfy { $0.value >= 0x20 && !(0x7f...0x9f).contains($0.value) })
      #expect(!line.unicodeScalars.contains { [0x202e, 0x2028].contains($0.value) })
    }
    #expect(StatusTable(StatusDocument(snapshot([report])), now: sampleNow).lines.allSatisfy { $0.count < 200 })
  }
}

@Suite("the status of one attachment")
struct StatusDetailTests {
  private func detail(_ report: AttachmentReport) -> String {
    StatusDetail(StatusDocument(snapshot([report])).attachments[0], now: sampleNow).lines.joined(separator: "\n")
  }

  @Test("says what protects the links, and where the server has not proved who it is")
  func security() {
    var report = fullReport()
    report.security = LinkSecurity(version: "TLS 1.2", cipher: "AES-128-GCM", place: .kernel, isServerVerified: false)
    #expect(
      detail(report).contains("protection: TLS 1.2, AES-128-GCM, in the kernel, server not verified\n"))
  }

  @Test("shows every field that there is")
  func full() {
    #expect(
      detail(fullReport()) == """
        data
                     state: waiting since 2026-01-31T06:18:00Z (3h 12min)
                  activity: connecting to storage1.example.com
                   failure: connecting: connection refused
                     errno: 111 (Connection refused)
                      hint: is the server running?
                  next try: 2026-01-31T09:30:05Z (in 5s)
                  attempts: 4 since the last success
                    device: /dev/nbd0
                    server: nbd://storage1.example.com/data
                    export: "data"
                      size: 10 GiB (10737418240 bytes)
                 read-only: no
                block size: 4096 bytes
          kernel interface: ioctl
                  datapath: direct
                     links: 0
                links lost: 2
        """)
  }

  @Test("says how much more was lost than the places that it shows")
  func manyLosses() {
    var report = relayedReport()
    report.dataLosses = [
      DataLoss(offset: 4096, length: 1 << 20, errnoCode: 28, time: sampleNow - 60, writes: 40, bytes: 20480)
    ]
    report.dataLossCount = 43
    let text = detail(report)
    #expect(text.contains("data lost: 20480 bytes between offset 4096 and 1052672, 2026-01-31T09:29:00Z (1min): "))
    #expect(text.contains("data lost: and 3 writes more"))
  }

  @Test("shows how a relay's links are protected, what it has counted, and what a server has lost")
  func relayed() {
    let lines = detail(relayedReport()).split(separator: "\n").map { $0.drop { $0 == " " } }
    for line in [
      "protection: TLS 1.3, AES-256-GCM, in the relay", "stalled: since 2026-01-31T09:29:15Z (45s)",
      "data lost: 4096 bytes at offset 1048576, 2026-01-31T09:29:00Z (1min): No space left on device",
      "reads: 1000, 3.9 MiB", "writes: 50, 6.2 MiB, errors: 2", "flushes: 7", "trims: 1, 1 MiB", "waiting now: 4",
      "unflushed: 3 MiB", "answered within: 64 µs (half), 256 µs (99 %), 2.6 s (all)",
      "sent again: requests: 12, acknowledged writes: 3, 12 KiB", "held: 2.5 s in all",
    ] {
      #expect(lines.contains { $0 == line }, "\(line)")
    }
  }

  @Test("leaves out what is not known")
  func minimal() {
    #expect(
      detail(AttachmentReport(name: "x", state: .stopped, since: sampleNow)) == """
        x
          state: stopped since 2026-01-31T09:30:00Z (now)
          links: 0
        """)
  }
}

@Suite("quantities for people")
struct QuantityTests {
  @Test(arguments: [
    (0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (2047, "1.9 KiB"), (10 << 30, "10 GiB"),
    (Int64.max, "7.9 EiB"),
  ])
  func sizes(bytes: Int64, text: String) {
    #expect(sizeText(bytes) == text)
  }

  @Test(arguments: [
    (-5, "now"), (0.4, "now"), (59, "59s"), (60, "1min"), (61, "1min 1s"), (3600, "1h"), (90061, "1d 1h"),
    (86460, "1d"), (Double.nan, "now"), (.infinity, "11574074d 1h"),
  ])
  func durations(seconds: Double, text: String) {
    #expect(durationText(seconds) == text)
  }

  @Test("a time is RFC 3339 and comes back the same", arguments: [0, 1.5, sampleNow, 253_402_300_799, -1, .infinity])
  func timestamps(seconds: Double) throws {
    let timestamp = Timestamp(seconds)
    #expect(timestamp.description.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil)
    let document = StatusDocument(snapshot([AttachmentReport(name: "x", state: .stopped, since: seconds)]))
    #expect(document.attachments[0].since == timestamp)
  }
}
