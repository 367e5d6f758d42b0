import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol

/// What can go wrong between a URI and a negotiated link, in the operator's words.
extension Failure {
  /// A refusal does not repeat which export was asked for, so it is said here.
  static func negotiating(_ error: HandshakeError, export: String) -> Failure {
    let message =
      switch error {
      case .refused(.go, _, _), .refused(.info, _, _): "export \(quoted(export)): \(error.message)"
      default: error.message
      }
    let advice: Advice =
      switch error.nature {
      case .passing: .retry
      case .final, .violation: .giveUp
      }
    return Failure(.negotiating, message, hint: error.hint, advice: advice)
  }

  static func connecting(_ errors: [SystemCallError], _ server: ServerURI) -> Failure {
    var lines: [String] = []
    for error in errors where !lines.contains("\(error)") { lines.append("\(error)") }
    // A name may have many addresses; the first few say it.
    let shown = lines.prefix(3).joined(separator: "; ") + (lines.count > 3 ? "; and \(lines.count - 3) more" : "")
    let code = errors.first?.code
    let hint: String? =
      switch code {
      case ECONNREFUSED: "is the server running, and listening there?"
      case ENOENT: "the server has not made its socket (yet), or the path is wrong"
      case EACCES, EPERM: "the daemon may not connect there: check the permissions of the socket and the firewall"
      default: nil
      }
    return Failure(
      .connecting, shown.isEmpty ? "\(server.address) has no address" : shown, hint: hint, errnoCode: code,
      advice: .retry)
  }

  /// Something that waited was ended from outside.
  static func ended(_ end: AttemptScope.End, _ phase: Phase, _ what: String, after timeout: Duration) -> Failure {
    switch end {
    case .timedOut:
      Failure(phase, "\(what): no answer within \(seconds(timeout)) s", errnoCode: ETIMEDOUT, advice: .retry)
    case .cancelled:
      Failure(phase, "\(what): cancelled", errnoCode: ECANCELED, advice: .retry)
    }
  }

  private static func seconds(_ duration: Duration) -> String {
    let milliseconds = Int((duration.inSeconds * 1000).rounded())
    return milliseconds % 1000 == 0 ? "\(milliseconds / 1000)" : "\(Double(milliseconds) / 1000)"
  }

  /// Why a device that was attached is no longer.
  static func linkLost(
    _ server: String?, remaining: Int, errnoCode: Int32?, _ reason: String? = nil
  ) -> Failure {
    let reason = (errnoCode.map { SystemCallError.text(of: $0) } ?? reason).map { ": " + $0 } ?? ""
    let what = remaining > 0 ? "a connection" : "the connection"
    return Failure(
      .serving, "\(what) to \(server ?? "the server") was lost\(reason)", errnoCode: errnoCode, advice: .retry)
  }

  /// All servers of an attachment have failed, each for its reason. Hopeless only where all are.
  static func combined(_ failures: [(server: ServerURI, failure: Failure)]) -> Failure {
    guard let last = failures.last?.failure else {
      return Failure(.connecting, "no server is configured", advice: .giveUp)
    }
    guard failures.count > 1, last.phase != .binding, !last.isCancellation else { return last }
    let message = failures.map { "\($0.server): \($0.failure.message)" }.joined(separator: "; ")
    let advice: Advice = failures.contains { $0.failure.advice == .retry } ? .retry : .giveUp
    return Failure(last.phase, message, hint: last.hint, errnoCode: last.errnoCode, advice: advice)
  }

  /// The attempt was given up from outside.
  var isCancellation: Bool { errnoCode == ECANCELED }
}
