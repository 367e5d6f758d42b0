import Dispatch
import LinuxKernel
import Synchronization

/// Notices a device on which requests wait and none is answered for too long: looks at the block layer's counters once
/// a second.
///
/// Concurrency model: a timer on the global queue; `state` is under its mutex, because the owner may let go at any time.
final class SilenceWatch: Sendable {
  private struct State {
    var completed: UInt64?
    var since: Double
  }

  private let limit: Duration
  private let index: Int
  private let sysfs: NBDSysfs
  private let onSilence: @Sendable () -> Void
  private let state: Mutex<State>

  init(limit: Duration, index: Int, sysfs: NBDSysfs, onSilence: @escaping @Sendable () -> Void) {
    self.limit = limit
    self.index = index
    self.sysfs = sysfs
    self.onSilence = onSilence
    state = Mutex(State(completed: nil, since: monotonicNow()))
  }

  /// Looks until the owner lets go of it.
  func start() {
    let period = min(1, limit.inSeconds / 4)
    DispatchQueue.global().asyncAfter(deadline: .now() + period) { [weak self] in
      guard let self else { return }
      look(at: monotonicNow())
      start()
    }
  }

  /// One look; calls `onSilence`, once for each silence, when it has lasted `limit`.
  func look(at now: Double) {
    let isWaiting = sysfs.inflight(of: index).map { $0.reads + $0.writes > 0 } ?? false
    let completed = sysfs.completedRequests(of: index)
    let isSilent = state.withLock { state in
      if !isWaiting || completed != state.completed {
        state = State(completed: completed, since: now)
        return false
      }
      guard now - state.since >= limit.inSeconds else { return false }
      state.since = now
      return true
    }
    if isSilent { onSilence() }
  }
}
