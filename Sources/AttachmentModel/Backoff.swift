/// Exponential back-off with jitter: the n-th pause is drawn evenly between half and the whole of
/// `initial * 2^n`, at most `maximum`, so that a thousand attachments that lost one server don't return as one.
package struct Backoff: Equatable, Sendable {
  package var policy: RetryPolicy
  private var step = 0
  private var random: SplitMix64

  /// Equal seeds give equal pauses.
  package init(policy: RetryPolicy, seed: UInt64) {
    self.policy = policy
    random = SplitMix64(state: seed)
  }

  /// The pause before the next try, never above `limit`.
  package mutating func next(limit: Duration? = nil) -> Duration {
    var bound = policy.maximum
    // 2^30 times the least sensible initial pause is more than any maximum.
    if step < 30 { bound = min(policy.initial * (1 << step), policy.maximum) }
    if let limit { bound = min(bound, limit) }
    step = min(step + 1, 30)
    return bound * Double.random(in: 0.5...1, using: &random)
  }

  /// After a success that lasted.
  package mutating func reset() { step = 0 }
}

/// Steele, Lea and Flood's generator: small, seedable, good enough for jitter.
package struct SplitMix64: RandomNumberGenerator, Equatable, Sendable {
  private var state: UInt64

  package init(state: UInt64) { self.state = state }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
