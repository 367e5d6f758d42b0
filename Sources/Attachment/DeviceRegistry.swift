import AttachmentModel
package import LinuxKernel
import Synchronization

/// Which device numbers the attachments of this process have taken, so that no two want the same one.
///
/// Concurrency model: shared by all workers; `state` is under its mutex.
package final class DeviceRegistry: Sendable {
  private struct State {
    var owners: [Int: String] = [:]
    /// Numbers that the configuration names: for their attachments alone.
    var named: [Int: String] = [:]
    var cursor = 0

    func isAvailable(_ index: Int, to owner: String) -> Bool {
      owners[index] == nil && named[index, default: owner] == owner
    }
  }

  package let sysfs: NBDSysfs
  private let state = Mutex(State())

  package init(sysfs: NBDSysfs = NBDSysfs()) { self.sysfs = sysfs }

  /// From now on these numbers are kept for the attachments that name them.
  package func keep(_ named: [Int: String]) { state.withLock { $0.named = named } }

  /// Takes `index` for `owner`; the name of the attachment that has it already, else `nil`.
  package func reserve(_ index: Int, for owner: String) -> String? {
    state.withLock { state in
      if let other = state.owners[index], other != owner { return other }
      state.owners[index] = owner
      return nil
    }
  }

  /// Takes a device that nobody uses, other than those in `excluded`; `nil` when there is none. The search goes on
  /// where the last one ended, so that a thousand attachments don't look at each device a thousand times.
  package func reserveFree(for owner: String, excluding excluded: Set<Int>) -> Int? {
    let indexes = sysfs.indexes()
    return state.withLock { state in
      let start = indexes.firstIndex { $0 >= state.cursor } ?? 0
      for index in indexes[start...] + indexes[..<start]
      where state.isAvailable(index, to: owner) && !excluded.contains(index) && sysfs.occupancy(of: index) == .free {
        state.owners[index] = owner
        state.cursor = index + 1
        return index
      }
      return nil
    }
  }

  /// The same, or else the lowest number that has no device yet: netlink makes one on demand.
  package func reserveFreeOrNew(for owner: String, excluding excluded: Set<Int>) -> Int {
    if let index = reserveFree(for: owner, excluding: excluded) { return index }
    let existing = Set(sysfs.indexes())
    return state.withLock { state in
      var index = 0
      while existing.contains(index) || excluded.contains(index) || !state.isAvailable(index, to: owner) { index += 1 }
      state.owners[index] = owner
      return index
    }
  }

  package func release(_ index: Int, by owner: String) {
    state.withLock { state in
      guard state.owners[index] == owner else { return }
      state.owners[index] = nil
      // A number that was given back is the first choice again: numbers stay small.
      state.cursor = min(state.cursor, index)
    }
  }
}
