import AttachmentModel
import Testing

@testable import Control

@Suite("status, watched")
struct StatusChangesTests {
  @Test("first every attachment has a line, then only what became different, and what has gone")
  func changes() {
    var changes = StatusChanges()
    #expect(
      lines(&changes, [attachedReport("a"), fullReport("b")]) == [
        "2026-01-31T09:30:00Z a: attached, /dev/nbd0",
        "2026-01-31T09:30:00Z b: waiting, /dev/nbd0, connecting: connection refused",
      ])
    #expect(lines(&changes, [attachedReport("a"), fullReport("b")]).isEmpty)
    var retried = fullReport("b")
    retried.attempts += 1
    retried.nextTry = sampleNow + 60
    #expect(lines(&changes, [attachedReport("a"), retried]).isEmpty)
    #expect(
      lines(&changes, [attachedReport("b")]) == [
        "2026-01-31T09:30:00Z b: attached, /dev/nbd0", "2026-01-31T09:30:00Z a: removed",
      ])
  }

  @Test("a daemon that is away is said once, and nothing is repeated when it is back as it was")
  func away() {
    var changes = StatusChanges()
    _ = lines(&changes, [attachedReport("a")])
    let gone = Result<StatusDocument, ControlError>.failure(.notRunning(path: "/x"))
    #expect(changes.lines(gone, now: sampleNow).count == 1)
    #expect(changes.lines(gone, now: sampleNow).isEmpty)
    #expect(lines(&changes, [attachedReport("a")]).isEmpty)
    #expect(changes.lines(gone, now: sampleNow).count == 1)
  }

  private func lines(_ changes: inout StatusChanges, _ reports: [AttachmentReport]) -> [String] {
    changes.lines(.success(StatusDocument(snapshot(reports))), now: sampleNow)
  }
}
