/// The ranges of all unanswered writes, close together, so that an overlap is found by one quick pass.
struct Claims {
  private struct Range {
    var start: UInt64
    var end: UInt64
  }

  private var ranges: [Range] = []
  private var owners: [SlotIndex] = []

  /// How many overlap `start..<end`.
  func overlaps(_ start: UInt64, _ end: UInt64) -> Int32 {
    var count: Int32 = 0
    for range in ranges where range.start < end && start < range.end { count &+= 1 }
    return count
  }

  /// Gives the place, good until `remove` says that it is another.
  mutating func add(_ start: UInt64, _ end: UInt64, _ owner: SlotIndex) -> Int32 {
    ranges.append(Range(start: start, end: end))
    owners.append(owner)
    return Int32(truncatingIfNeeded: ranges.count - 1)
  }

  /// Gives the owner that is at `place` now, or `noSlot`.
  mutating func remove(at place: Int32) -> SlotIndex {
    let place = Int(place)
    let last = ranges.count - 1
    ranges.swapAt(place, last)
    owners.swapAt(place, last)
    ranges.removeLast()
    owners.removeLast()
    return place < last ? owners[place] : noSlot
  }

  mutating func removeAll() {
    ranges.removeAll(keepingCapacity: true)
    owners.removeAll(keepingCapacity: true)
  }
}
