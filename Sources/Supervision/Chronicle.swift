package import Attachment
import AttachmentModel
import Control
package import Systemd

/// Turns one attachment's changes of state into journal entries.
///
/// A retry that fails like the one before is not said again each time, or a server that is away for a day would fill
/// the journal: only tries whose number is a power of two speak, and those that fail in a new way.
package struct Chronicle: Sendable {
  private var lastFailure: String?
  private var hasSaidThatItStalls = false
  private var lastRenewalFailure: String?

  package init() {}

  /// The entry for a change of state; `nil` where nothing is to be said.
  package mutating func entry(for observation: AttachmentWorker.Observation) -> JournalEntry? {
    guard let previous = observation.previous else { return nil }
    let report = observation.report
    guard isWorthSaying(report) else { return nil }
    // What comes from a server is escaped where it enters; `printable` is for what got past that.
    return JournalEntry(
      priority(of: report), printable("\(report.name): \(sentence(report, after: previous))"),
      id: MessageID(stateNamed: report.state.rawValue),
      fields: [
        .attachment: report.name, .device: report.device, .server: report.server, .export: report.export,
        .state: report.state.rawValue, .previousState: previous.rawValue,
        .phase: report.failure?.phase.rawValue, .errno: report.failure?.errnoCode.map { "\($0)" },
      ])
  }

  /// The entry for what a device has told; `nil` where nothing is to be said.
  package mutating func notice(of observation: AttachmentWorker.Observation) -> JournalEntry? {
    guard let notice = observation.notice, isWorthSaying(notice, observation.report.state) else { return nil }
    let report = observation.report
    let (priority, sentence, id) = NoticeText.of(notice, report)
    return JournalEntry(
      priority, printable("\(report.name): \(sentence)"), id: id,
      fields: [
        .attachment: report.name, .device: report.device, .server: report.server, .export: report.export,
        .errno: notice.errnoCode.map { "\($0)" },
      ])
  }

  /// The entry for links that are not as declared, and can't be made anew; `nil` where nothing is to be said of them.
  package mutating func renewal(of observation: AttachmentWorker.Observation) -> JournalEntry? {
    let report = observation.report
    let failure = report.renewalFailure?.message
    defer { lastRenewalFailure = failure }
    guard let failure, failure != lastRenewalFailure else { return nil }
    return JournalEntry(
      .warning,
      printable(
        "\(report.name): its links stay as they were declared before, because new ones can't be had: \(failure)"),
      fields: [
        .attachment: report.name, .device: report.device, .server: report.server, .export: report.export,
        .phase: report.renewalFailure?.phase.rawValue, .errno: report.renewalFailure?.errnoCode.map { "\($0)" },
      ])
  }

  /// That requests wait while there is no server goes without saying.
  private mutating func isWorthSaying(_ notice: DeviceNotice, _ state: AttachmentReport.State) -> Bool {
    switch notice {
    case .stalled:
      if state == .attached || state == .degraded { hasSaidThatItStalls = true }
      return hasSaidThatItStalls
    case .flowing:
      defer { hasSaidThatItStalls = false }
      return hasSaidThatItStalls
    case .keepsChanged: return false
    case .silent, .recovered, .dataLost, .flushFailed, .leftUnflushed, .leftUntold, .legacyLost, .awaitsFormerLinks,
      .serverChanged, .renewedAsDeclared, .kernelMisbehaved:
      return true
    }
  }

  private mutating func isWorthSaying(_ report: AttachmentReport) -> Bool {
    switch report.state {
    case .connecting:
      return report.attempts <= 1
    case .waiting, .failed:
      let failure = report.failure?.message
      defer { lastFailure = failure }
      return failure != lastFailure || report.attempts.nonzeroBitCount == 1
    case .attached:
      lastFailure = nil
      return true
    case .detaching:
      // Where there is no device, `stopped` follows at once.
      return report.device != nil
    case .stopped, .degraded, .reconnecting:
      return true
    }
  }

  private func priority(of report: AttachmentReport) -> JournalEntry.Priority {
    switch report.state {
    case .attached, .detaching: .info
    case .stopped: report.failure?.phase == .detaching ? .warning : .info
    case .connecting: report.failure == nil ? .info : .warning
    // Without a failure it was taken over from a former process, as it was left.
    case .reconnecting: report.failure == nil ? .info : .warning
    case .waiting, .degraded: .warning
    case .failed: .error
    }
  }

  private func sentence(_ report: AttachmentReport, after previous: AttachmentReport.State) -> String {
    let server = report.server ?? "the server"
    let device = report.device ?? "a device"
    switch report.state {
    // Any other failure is an older one, which the stop has made irrelevant.
    case .stopped:
      if report.failure?.phase == .detaching { return "stopped, but \(reason(report))" }
      switch previous {
      // Whatever is detached goes through `detaching`.
      case .attached, .degraded, .reconnecting: return "left to the kernel, where the next start finds it"
      case .stopped, .connecting, .waiting, .detaching, .failed: return "stopped"
      }
    case .connecting: return report.failure.map { "connecting again: \($0.message)" } ?? "connecting"
    case .attached:
      let size = report.size.map { ", \(sizeText(Int64(clamping: $0)))" } ?? ""
      return "attached: \(device) is \(server)\(size)\(report.isReadOnly == true ? ", read-only" : "")"
    case .degraded: return "degraded: \(reason(report))"
    case .reconnecting:
      return "reconnecting, I/O on \(device) waits" + (report.failure == nil ? "" : ": \(reason(report))")
    case .waiting:
      let count = report.attempts > 1 ? " (try \(report.attempts))" : ""
      return "waiting\(count): \(reason(report))"
    case .detaching: return "detaching"
    case .failed: return "failed: \(reason(report))"
    }
  }

  private func reason(_ report: AttachmentReport) -> String {
    guard let failure = report.failure else { return "no reason is known" }
    return failure.message + (failure.hint.map { " (\($0))" } ?? "")
  }
}
