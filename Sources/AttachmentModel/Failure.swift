/// Why something did not work: where it happened, what happened, and what to do about it.
///
/// Whether a failure is retried soon or counts as permanent is decided here and nowhere else (`advice`).
package struct Failure: Error, Equatable, Sendable {
  /// In which part of an attachment's life it happened.
  package enum Phase: String, CaseIterable, Sendable, Codable {
    case resolving
    case connecting
    case negotiating
    case comparing
    case binding
    case serving
    case detaching
  }

  package enum Advice: Sendable, Equatable {
    /// The next try may well succeed: back-off applies.
    case retry
    /// Can't succeed without a change on either side: retried slowly, said loudly.
    case giveUp
  }

  package var phase: Phase
  /// One line for the operator, no full stop at the end; text from a server is quoted and escaped.
  package var message: String
  /// What the operator can do, one line; `nil` where there is nothing but to wait.
  package var hint: String?
  /// The kernel's errno, where the cause is a system call.
  package var errnoCode: Int32?
  package var advice: Advice

  package init(_ phase: Phase, _ message: String, hint: String? = nil, errnoCode: Int32? = nil, advice: Advice) {
    self.phase = phase
    self.message = message
    self.hint = hint
    self.errnoCode = errnoCode
    self.advice = advice
  }
}
