import Testing

@testable import AttachmentModel

@Suite("what is reported of a lifecycle's state")
struct LifecycleReportTests {
  private static let attempt = Lifecycle.Attempt(generation: 7, number: 3, previous: .lost)
  private static let renewal = Lifecycle.Attempt(generation: 7, number: 1, previous: nil)
  private static let hopelessAttempt = Lifecycle.Attempt(generation: 7, number: 2, previous: .hopeless)
  private static let hopelessPause = Lifecycle.Pause(generation: 8, attempts: 2, failure: .hopeless)
  private static let pause = Lifecycle.Pause(generation: 8, attempts: 4, failure: .passing)
  private static let binding = Lifecycle.Binding(generation: 6, standing: .settled)

  struct Case: Sendable {
    let state: Lifecycle.State
    let reported: AttachmentReport.State
    var attempts: Int?
    var hasLinks = false
    var isAttempting = false
    var isPausing = false
  }

  static let cases = [
    Case(state: .stopped, reported: .stopped),
    Case(state: .connecting(attempt), reported: .connecting, attempts: 3, isAttempting: true),
    Case(state: .attached(binding), reported: .attached, hasLinks: true),
    Case(
      state: .degraded(binding, .trying(attempt)), reported: .degraded, attempts: 3, hasLinks: true, isAttempting: true),
    // All links are up, and stay so until the new ones are there.
    Case(
      state: .degraded(binding, .trying(renewal)), reported: .attached, attempts: 1, hasLinks: true, isAttempting: true),
    Case(state: .degraded(binding, .pausing(pause)), reported: .degraded, attempts: 4, hasLinks: true, isPausing: true),
    Case(state: .reconnecting(.trying(attempt)), reported: .reconnecting, attempts: 3, isAttempting: true),
    Case(state: .reconnecting(.pausing(pause)), reported: .reconnecting, attempts: 4, isPausing: true),
    // I/O is held, but not for a server that may come back: something has to change.
    Case(state: .reconnecting(.trying(hopelessAttempt)), reported: .failed, attempts: 2, isAttempting: true),
    Case(state: .reconnecting(.pausing(hopelessPause)), reported: .failed, attempts: 2, isPausing: true),
    Case(state: .waiting(pause), reported: .waiting, attempts: 4, isPausing: true),
    Case(state: .failed(pause), reported: .failed, attempts: 4, isPausing: true),
    Case(state: .detaching(.awaitingAttempt(7, .releaseAndStartAgain)), reported: .detaching, isAttempting: true),
    Case(state: .detaching(.awaitingRelease(9, startAgain: false)), reported: .detaching),
  ]

  @Test("follows the state alone", arguments: cases)
  func report(example: Case) {
    #expect(example.state.reported == example.reported)
    #expect(example.state.attempts == example.attempts)
    #expect(example.state.hasLinks == example.hasLinks)
    #expect(example.state.isAttempting == example.isAttempting)
    #expect(example.state.isPausing == example.isPausing)
  }
}
