import AttachmentModel
import Supervision
import Systemd
import Testing

@testable import Attachment

@Suite("what the journal is told of an attachment")
struct ChronicleTests {
  private static let refused = Failure(
    .connecting, "connect to 192.0.2.1 port 10809: Connection refused", hint: "is the server running?",
    errnoCode: 111, advice: .retry)
  private static let noModule = Failure(
    .binding, "there is no nbd device: the kernel module is not loaded", hint: "modprobe nbd", errnoCode: 19,
    advice: .giveUp)

  /// One change of state and its whole entry.
  struct Golden: CustomTestStringConvertible {
    let from: AttachmentReport.State
    let report: AttachmentReport
    let entry: JournalEntry

    var testDescription: String { "\(from) to \(report.state)" }
  }

  static let golden: [Golden] = [
    Golden(
      from: .stopped, report: report(.connecting, attempts: 1, device: nil),
      entry: JournalEntry(
        .info, "data: connecting", id: .connecting,
        fields: common(.connecting, from: .stopped, device: nil))),
    Golden(
      from: .attached, report: report(.connecting, attempts: 1, failure: refused),
      entry: JournalEntry(
        .warning, "data: connecting again: connect to 192.0.2.1 port 10809: Connection refused", id: .connecting,
        fields: common(.connecting, from: .attached, failure: refused))),
    Golden(
      from: .connecting, report: report(.attached),
      entry: JournalEntry(
        .info, "data: attached: /dev/nbd3 is nbd://192.0.2.1/disk, 10 GiB, read-only", id: .attached,
        fields: common(.attached, from: .connecting))),
    Golden(
      from: .attached, report: report(.degraded, failure: refused),
      entry: JournalEntry(
        .warning,
        "data: degraded: connect to 192.0.2.1 port 10809: Connection refused (is the server running?)",
        id: .degraded, fields: common(.degraded, from: .attached, failure: refused))),
    Golden(
      from: .attached, report: report(.reconnecting, failure: refused),
      entry: JournalEntry(
        .warning,
        "data: reconnecting, I/O on /dev/nbd3 waits: connect to 192.0.2.1 port 10809: Connection refused "
          + "(is the server running?)",
        id: .reconnecting, fields: common(.reconnecting, from: .attached, failure: refused))),
    Golden(
      from: .stopped, report: report(.reconnecting),
      entry: JournalEntry(
        .info, "data: reconnecting, I/O on /dev/nbd3 waits", id: .reconnecting,
        fields: common(.reconnecting, from: .stopped))),
    Golden(
      from: .connecting, report: report(.waiting, attempts: 4, failure: refused),
      entry: JournalEntry(
        .warning,
        "data: waiting (try 4): connect to 192.0.2.1 port 10809: Connection refused (is the server running?)",
        id: .waiting, fields: common(.waiting, from: .connecting, failure: refused))),
    Golden(
      from: .connecting, report: report(.failed, attempts: 1, failure: noModule, device: nil),
      entry: JournalEntry(
        .error, "data: failed: there is no nbd device: the kernel module is not loaded (modprobe nbd)", id: .failed,
        fields: common(.failed, from: .connecting, failure: noModule, device: nil))),
    Golden(
      from: .attached, report: report(.detaching),
      entry: JournalEntry(
        .info, "data: detaching", id: .detaching, fields: common(.detaching, from: .attached))),
    Golden(
      from: .detaching, report: report(.stopped, failure: refused, device: nil),
      entry: JournalEntry(
        .info, "data: stopped", id: .stopped,
        fields: common(.stopped, from: .detaching, failure: refused, device: nil))),
  ]

  @Test("each change of state has one entry with every field", arguments: golden)
  func entry(golden: Golden) {
    var chronicle = Chronicle()
    #expect(chronicle.entry(for: Observation(report: golden.report, previous: golden.from)) == golden.entry)
  }

  @Test("every state has its golden entry, and every entry another message id")
  func complete() {
    #expect(Set(Self.golden.map(\.report.state)) == Set(AttachmentReport.State.allCases))
    #expect(Set(Self.golden.compactMap(\.entry.messageID)).count == AttachmentReport.State.allCases.count)
  }

  @Test("what changes no state is not told")
  func noChange() {
    var chronicle = Chronicle()
    #expect(chronicle.entry(for: Observation(report: Self.report(.connecting), previous: nil)) == nil)
  }

  @Test("a device that the kernel keeps is warned of")
  func notReleased() {
    let kept = Failure(.detaching, "the kernel does not let go of /dev/nbd3", errnoCode: 16, advice: .retry)
    var chronicle = Chronicle()
    let entry = chronicle.entry(
      for: Observation(report: Self.report(.stopped, failure: kept, device: nil), previous: .detaching))
    #expect(entry?.message == "data: stopped, but the kernel does not let go of /dev/nbd3")
    #expect(entry?.priority == .warning)
  }

  @Test("without a device there is no detaching to tell of")
  func nothingToDetach() {
    var chronicle = Chronicle()
    let report = Self.report(.detaching, device: nil)
    #expect(chronicle.entry(for: Observation(report: report, previous: .waiting)) == nil)
  }

  @Test("of a failure that repeats itself only tries whose number is a power of two are told")
  func repetition() {
    var chronicle = Chronicle()
    let told = (1...40).filter { fail(&chronicle, Self.refused, attempts: $0) }
    #expect(told == [1, 2, 4, 8, 16, 32])
  }

  @Test("a failure that has changed is told at once")
  func changed() {
    var chronicle = Chronicle()
    for attempt in 1...8 { _ = fail(&chronicle, Self.refused, attempts: attempt) }
    #expect(!fail(&chronicle, Self.refused, attempts: 9))
    #expect(fail(&chronicle, Self.noModule, attempts: 10))
    #expect(!fail(&chronicle, Self.noModule, attempts: 11))
  }

  @Test("after a success the same failure is told anew")
  func afterSuccess() {
    var chronicle = Chronicle()
    for attempt in 1...6 { _ = fail(&chronicle, Self.refused, attempts: attempt) }
    _ = chronicle.entry(for: Observation(report: Self.report(.attached), previous: .connecting))
    #expect(fail(&chronicle, Self.refused, attempts: 3))
  }

  @Test("later tries begin in silence")
  func laterTries() {
    var chronicle = Chronicle()
    let report = Self.report(.connecting, attempts: 2, failure: Self.refused)
    #expect(chronicle.entry(for: Observation(report: report, previous: .waiting)) == nil)
  }

  @Test("what a server says never reaches a terminal unescaped")
  func hostileServer() {
    let hostile = "no\u{1b}[2J\r\nMESSAGE=fake\u{202e}\u{0}\u{9b}\u{2028}"
    var chronicle = Chronicle()
    let failure = Failure(.negotiating, hostile, hint: hostile, advice: .giveUp)
    let entry = chronicle.entry(
      for: Observation(report: Self.report(.failed, attempts: 1, failure: failure), previous: .connecting))
    let unsafe = entry?.message.unicodeScalars.filter { scalar in
      switch scalar.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator: true
      default: false
      }
    }
    #expect(unsafe?.isEmpty == true)
    #expect(entry?.message.contains("MESSAGE=fake") == true)
  }

  private typealias Observation = AttachmentWorker.Observation

  /// Whether the failure is told.
  private func fail(_ chronicle: inout Chronicle, _ failure: Failure, attempts: Int) -> Bool {
    let state: AttachmentReport.State = failure.advice == .retry ? .waiting : .failed
    let report = Self.report(state, attempts: attempts, failure: failure)
    return chronicle.entry(for: Observation(report: report, previous: .connecting)) != nil
  }

  private static func report(
    _ state: AttachmentReport.State, attempts: Int = 0, failure: Failure? = nil, device: String? = "/dev/nbd3"
  ) -> AttachmentReport {
    var report = AttachmentReport(name: "data", state: state, since: 0)
    report.device = device
    report.server = "nbd://192.0.2.1/disk"
    report.export = "disk"
    report.size = 10 << 30
    report.isReadOnly = true
    report.attempts = attempts
    report.failure = failure
    return report
  }

  private static func common(
    _ state: AttachmentReport.State, from previous: AttachmentReport.State, failure: Failure? = nil,
    device: String? = "/dev/nbd3"
  ) -> KeyValuePairs<JournalField, String?> {
    [
      .attachment: "data", .device: device, .server: "nbd://192.0.2.1/disk", .export: "disk",
      .state: state.rawValue, .previousState: previous.rawValue, .phase: failure?.phase.rawValue,
      .errno: failure?.errnoCode.map { "\($0)" },
    ]
  }
  /// What is said of a notice; `nil`: nothing.
  private func said(_ notice: DeviceNotice, _ state: AttachmentReport.State, _ chronicle: inout Chronicle)
    -> JournalEntry?
  {
    var report = AttachmentReport(name: "data", state: state, since: 0)
    report.server = "nbd://h/data"
    report.device = "/dev/nbd3"
    return chronicle.notice(of: AttachmentWorker.Observation(report: report, previous: nil, notice: notice))
  }

  @Test("data that is lost is critical, with its place")
  func dataLost() throws {
    var chronicle = Chronicle()
    let loss = DataLoss(offset: 4096, length: 512, errnoCode: 28, time: 0)
    let entry = try #require(said(.dataLost(loss), .attached, &chronicle))
    #expect(entry.priority == .critical && entry.messageID == .dataLost)
    #expect(
      entry.message
        == "data: data lost: nbd://h/data had acknowledged 512 bytes at offset 4096, has lost them, and refuses them now "
        + "(No space left on device); the next flush fails")
    #expect(entry.fields.first { $0.name == .errno }?.value == "28")
    #expect(entry.fields.first { $0.name == .device }?.value == "/dev/nbd3")
    let rest = DataLoss(offset: 4096, length: 1 << 20, errnoCode: 28, time: 0, writes: 40, bytes: 20480)
    #expect(
      try #require(said(.dataLost(rest), .attached, &chronicle)).message.hasPrefix(
        "data: data lost: nbd://h/data had acknowledged 40 writes more, 20480 bytes between offset 4096 and 1052672, "))
  }

  @Test("a stall is told once it begins and once it ends; that requests wait for a lost server goes without saying")
  func stalls() {
    var chronicle = Chronicle()
    #expect(said(.stalled(seconds: 30), .reconnecting, &chronicle) == nil)
    #expect(said(.flowing, .attached, &chronicle) == nil)
    #expect(
      said(.stalled(seconds: 30), .attached, &chronicle)?.message
        == "data: stalled: a request has waited 30s for its answer from nbd://h/data")
    #expect(said(.flowing, .attached, &chronicle)?.message == "data: no longer stalled")
    #expect(said(.flowing, .attached, &chronicle) == nil)
  }

  @Test("what was sent again, and what can't be made sure of, is told")
  func outages() {
    var chronicle = Chronicle()
    #expect(
      said(.recovered(resent: 0, replayed: 3, replayedBytes: 12288), .attached, &chronicle)?.message
        == "data: sent again after the outage: 3 acknowledged writes of 12 KiB")
    #expect(
      said(.recovered(resent: 7, replayed: 1, replayedBytes: 512), .attached, &chronicle)?.message
        == "data: sent again after the outage: 7 requests and 1 acknowledged write of 512 B")
    #expect(said(.leftUnflushed(bytes: 4096), .reconnecting, &chronicle)?.priority == .warning)
    #expect(said(.leftUntold, .reconnecting, &chronicle)?.priority == .warning)
    #expect(
      said(.legacyLost(bytes: 4096, reason: "it is damaged"), .reconnecting, &chronicle)?.message
        == "data: what the former process has left of it can't be taken over, and 4 KiB of acknowledged writes are not "
        + "sent again: it is damaged; the next flush fails")
    #expect(
      said(.awaitsFormerLinks, .attached, &chronicle)?.message
        == "data: requests wait: nbd://h/data has not closed the connections of the former process, and may still carry "
        + "out its writes")
    #expect(said(.keepsChanged, .attached, &chronicle) == nil)
    #expect(said(.silent, .attached, &chronicle)?.messageID == .stalled)
  }
}
