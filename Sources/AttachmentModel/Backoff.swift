/// Exponential back-off with jitter: the n-th pause is drawn evenly between half and the whole of
/// `initial * 2^n`, at most `maximum`, so that a thousand attachments that lost one server don't return as one.
package struct Backoff: Equatable, Sendable {
  package var policy: RetryPolicy
  /// The bound of the next pause; `nil`: the initial one.
  private var grown: Duration?
  private var random: SplitMix64

  /// Equal seeds give equal pauses.
  package init(policy: RetryPolicy, seed: UInt64) {
    self.policy = policy
    random = SplitMix64(state: seed)
  }

  /// The pause before the next try, never above `limit`.
  package mutating func next(limit: Duration? = nil) -> Duration {
    let bound = min(grown ?? policy.initial, policy.maximum)
    // Doubled only below the maximum, so that no policy overflows.
    grown = bound < policy.maximum / 2 ? bound * 2 : policy.maximum
    return jittered(limit.map { min(bound, $0) } ?? bound)
  }

  /// Drawn evenly between half and the whole of `bound`; the growth is not touched.
  package mutating func jittered(_ bound: Duration) -> Duration {
    min(bound, bound * Double.random(in: 0.5...1, using: &random))
  }

  /// After a success that lasted.
  package mutating func reset() { grown = nil }
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
