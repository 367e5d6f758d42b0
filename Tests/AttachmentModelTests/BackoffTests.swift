import Testing

@testable import AttachmentModel

@Suite("pauses between tries")
struct BackoffTests {
  @Test("each pause is drawn between half and the whole of a bound that doubles up to the maximum")
  func bounds() {
    for seed in 0..<100 as Range<UInt64> {
      var backoff = Backoff(policy: RetryPolicy(initial: .milliseconds(100), maximum: .seconds(30)), seed: seed)
      for bound in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000] {
        let pause = backoff.next()
        #expect(pause >= .milliseconds(bound) / 2 && pause <= .milliseconds(bound))
      }
    }
  }

  @Test("the jitter fills its whole range")
  func jitter() {
    var backoff = Backoff(policy: RetryPolicy(initial: .seconds(10), maximum: .seconds(10)), seed: 1)
    let pauses = (0..<1000).map { _ in backoff.next() }
    for tenth in 5..<10 {
      #expect(pauses.contains { $0 >= .seconds(tenth) && $0 < .seconds(tenth + 1) })
    }
  }

  @Test("equal seeds give equal pauses, others differ")
  func seeds() {
    func pauses(_ seed: UInt64) -> [Duration] {
      var backoff = Backoff(policy: RetryPolicy(), seed: seed)
      return (0..<20).map { _ in backoff.next() }
    }
    #expect(pauses(7) == pauses(7))
    #expect(pauses(7) != pauses(8))
  }

  @Test("after a reset the first pause is short again")
  func reset() {
    var backoff = Backoff(policy: RetryPolicy(initial: .milliseconds(100), maximum: .seconds(30)), seed: 3)
    for _ in 0..<20 { _ = backoff.next() }
    backoff.reset()
    #expect(backoff.next() <= .milliseconds(100))
  }

  @Test("a limit cuts the pause and not the growth")
  func limit() {
    var backoff = Backoff(policy: RetryPolicy(initial: .milliseconds(100), maximum: .seconds(30)), seed: 4)
    for _ in 0..<20 { #expect(backoff.next(limit: .seconds(1)) <= .seconds(1)) }
    #expect(backoff.next() >= .seconds(15))
  }

  @Test("an initial pause above the maximum counts as the maximum")
  func initialAboveMaximum() {
    var backoff = Backoff(policy: RetryPolicy(initial: .seconds(60), maximum: .seconds(2)), seed: 5)
    let pause = backoff.next()
    #expect(pause >= .seconds(1) && pause <= .seconds(2))
  }

  @Test("no policy overflows", arguments: [Duration.zero, .nanoseconds(1), .seconds(Int64.max)])
  func extremes(duration: Duration) {
    var backoff = Backoff(policy: RetryPolicy(initial: duration, maximum: .seconds(Int64.max)), seed: 6)
    for _ in 0..<100 {
      let pause = backoff.next()
      #expect(pause >= .zero && pause <= .seconds(Int64.max))
    }
  }

  @Test("a pause that does not grow has its jitter too")
  func steady() {
    var backoff = Backoff(policy: RetryPolicy(), seed: 7)
    let pauses = (0..<100).map { _ in backoff.jittered(.seconds(30)) }
    #expect(pauses.allSatisfy { $0 >= .seconds(15) && $0 <= .seconds(30) })
    #expect(Set(pauses).count > 90)
    #expect(backoff.next() <= .milliseconds(100))
  }
}
