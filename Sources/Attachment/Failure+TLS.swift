import AttachmentModel
import TLS

/// What can go wrong between a server's agreement to TLS and a protected connection, in the operator's words.
extension Failure {
  static func securing(_ error: TLSError) -> Failure {
    let code: Int32? = if case .system(_, let code) = error { code } else { nil }
    let advice: Advice =
      switch error.nature {
      case .passing: .retry
      case .final: .giveUp
      }
    // What this machine lacks it lacks with every server.
    let phase: Phase = error == .kernel(.noModule) ? .binding : .negotiating
    return Failure(phase, error.message, hint: error.hint, errnoCode: code, advice: advice)
  }

  static func securing(_ problem: TLSRequirements.Problem) -> Failure {
    Failure(.negotiating, problem.message, hint: problem.hint, advice: .giveUp)
  }

  /// Of a link that would have no more than that, where more is required.
  static func unprotected(_ protection: Protection) -> Failure {
    switch protection {
    case .none:
      Failure(
        .connecting, "the attachment is declared with TLS, and never goes without it", hint: "write `nbds` for `nbd`",
        advice: .giveUp)
    case .unverified, .verified:
      Failure(
        .connecting, "the attachment is declared with a server that proves who it is, and goes to none that does not",
        hint: "leave `tls-verify-peer=0` out of the URI", advice: .giveUp)
    }
  }

  /// proto.md, "NBD_OPT_STARTTLS": what comes between the acknowledgement and TLS was put there by somebody.
  static var injectedPlaintext: Failure {
    Failure(
      .negotiating, "bytes came in clear after the server had agreed to TLS",
      hint: "somebody between may be interfering, or the server is broken", advice: .giveUp)
  }
}
