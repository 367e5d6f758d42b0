/// What a relay has counted since it was made. Each number is exact; numbers of one snapshot may be a wake-up apart.
package struct RelayStatistics: Equatable, Sendable {
  /// The answered requests of one kind.
  package struct Requests: Equatable, Sendable {
    package var count: UInt64 = 0
    /// Of those that succeeded.
    package var bytes: UInt64 = 0
    /// Of `count`, answered with an error.
    package var errors: UInt64 = 0

    package init() {}
  }

  package var reads = Requests()
  package var writes = Requests()
  package var flushes = Requests()
  /// Trims and zeroes.
  package var trims = Requests()

  /// Of all kinds.
  package var answered: UInt64 { reads.count &+ writes.count &+ flushes.count &+ trims.count }

  /// How often a request that the kernel waited for was sent once more.
  package var resent: UInt64 = 0
  /// Acknowledged writes that were sent again, and their payload in bytes.
  package var replayed: UInt64 = 0
  package var replayedBytes: UInt64 = 0
  /// Requests that were cut to the server's maximum payload.
  package var split: UInt64 = 0
  /// Links that were lost.
  package var linksLost: UInt64 = 0

  /// Requests by the time from their arrival to their answer: below 1 µs, below 2 µs, below 4 µs, and so on; the last
  /// holds all that took longer.
  package var latency: [UInt64] = []
  /// In nanoseconds: how long there was no link to send on.
  package var heldNanoseconds: UInt64 = 0
  /// In nanoseconds: the longest time from a request's arrival to its answer.
  package var longestNanoseconds: UInt64 = 0

  /// Links that take requests.
  package var links: Int = 0
  /// Requests that the kernel waits for.
  package var queueDepth: Int = 0
  /// Acknowledged, unflushed writes that are kept.
  package var unflushedEntries: Int = 0
  /// Their payload in bytes.
  package var unflushedBytes: Int = 0
  /// In bytes: buffers that are mapped, touched or not.
  package var memory: Int = 0

  package init() {}
}
