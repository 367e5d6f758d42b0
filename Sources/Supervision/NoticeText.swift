import Attachment
import AttachmentModel
import Control
import LinuxKernel
import Systemd

/// What the journal says of a notice.
enum NoticeText {
  static func of(
    _ notice: DeviceNotice, _ report: AttachmentReport
  ) -> (JournalEntry.Priority, String, MessageID?) {
    let server = report.server ?? "the server"
    switch notice {
    case .silent:
      return (
        .warning,
        "\(server) has not answered within the request-timeout: another connection is made before it is given up",
        .stalled
      )
    case .stalled(let seconds):
      return (.warning, "stalled: a request has waited \(seconds)s for its answer from \(server)", .stalled)
    case .flowing: return (.info, "no longer stalled", .stalled)
    case .recovered(let resent, let replayed, let bytes):
      let parts = [
        resent > 0 ? counted(resent, "request") : nil,
        replayed > 0
          ? "\(counted(replayed, "acknowledged write")) of \(sizeText(Int64(clamping: bytes)))" : nil,
      ]
      return (.info, "sent again after the outage: \(parts.compactMap(\.self).joined(separator: " and "))", .recovered)
    case .dataLost(let loss):
      return (
        .critical,
        "data lost: \(server) had acknowledged \(loss.place), has lost them, and refuses them now "
          + "(\(SystemCallError.text(of: loss.errnoCode))); the next flush fails",
        .dataLost
      )
    case .flushFailed(let code):
      return (.error, "\(server) could not flush (\(SystemCallError.text(of: code))): the next flush fails", .dataLost)
    case .leftUnflushed(let bytes):
      return (
        .warning,
        "let go with \(sizeText(Int64(clamping: bytes))) that were acknowledged and not flushed: lost if the server's "
          + "host crashed",
        .dataLost
      )
    case .leftUntold:
      return (.warning, "let go before it could be told of data that is lost: its next flush succeeds", .dataLost)
    case .legacyLost(let bytes, let reason):
      return (
        .error,
        "what the former process has left of it can't be taken over, and \(sizeText(Int64(clamping: bytes))) of "
          + "acknowledged writes are not sent again: \(reason); the next flush fails",
        .dataLost
      )
    case .awaitsFormerLinks:
      return (
        .warning,
        "requests wait: \(server) has not closed the connections of the former process, and may still carry out its writes",
        .stalled
      )
    case .keepsChanged: return (.debug, "what is kept of it for the next process is another", nil)
    case .serverChanged(let old, let new): return (.info, "moved from \(old) to \(new)", .serverChanged)
    case .renewedAsDeclared: return (.info, "its links are made anew, as they are declared now", nil)
    case .kernelMisbehaved(let problem):
      return (.error, "the kernel has sent what it may not send (\(problem)): it gets a new connection", nil)
    }
  }
}

extension DataLoss {
  /// What is lost, as a part of a sentence.
  fileprivate var place: String {
    if bytes == length { return "\(length) bytes at offset \(offset)" }
    return "\(counted(writes, "write")) more, \(bytes) bytes between offset \(offset) and \(offset &+ length)"
  }
}

/// A number and what it counts, of which the plural ends in "s".
private func counted(_ count: Int, _ noun: String) -> String { "\(count) \(noun)\(count == 1 ? "" : "s")" }

extension DeviceNotice {
  var errnoCode: Int32? {
    switch self {
    case .dataLost(let loss): loss.errnoCode
    case .flushFailed(let code): code
    case .silent, .stalled, .flowing, .recovered, .leftUnflushed, .leftUntold: nil
    case .keepsChanged, .legacyLost, .awaitsFormerLinks, .serverChanged, .renewedAsDeclared, .kernelMisbehaved: nil
    }
  }
}
