import Synchronization

/// How many bytes of unflushed writes all relays of a process keep together, beyond the 1 MiB that each may keep always.
///
/// Concurrency model: shared by all relays' threads; two atomics.
package final class RelayBudget: Sendable {
  private let bytes: Atomic<Int>
  private let taken = Atomic<Int>(0)

  package init(bytes: Int) { self.bytes = Atomic(max(bytes, 0)) }

  /// In bytes. What is kept beyond a lower limit stays until it is flushed.
  package var limit: Int { bytes.load(ordering: .relaxed) }
  package func setLimit(_ limit: Int) { bytes.store(max(limit, 0), ordering: .relaxed) }

  /// In bytes, of `limit`.
  package var inUse: Int { taken.load(ordering: .relaxed) }

  /// Takes `bytes`, or nothing: whether there was room.
  func take(_ bytes: Int) -> Bool {
    let limit = limit
    var now = taken.load(ordering: .relaxed)
    while now <= limit - bytes {
      let (exchanged, found) = taken.weakCompareExchange(expected: now, desired: now + bytes, ordering: .relaxed)
      if exchanged { return true }
      now = found
    }
    return false
  }

  /// Gives back what `take` took.
  func giveBack(_ bytes: Int) { taken.subtract(bytes, ordering: .relaxed) }
}
