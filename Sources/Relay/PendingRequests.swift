/// What the kernel waits for, by its cookies: only what the counters need, and whether a cookie is used twice.
///
/// A hash table with open addressing: a lookup touches one cache line or two, and nothing is allocated once it is large
/// enough. Concurrency model: the relay's thread alone.
struct PendingRequests: ~Copyable {
  struct Entry {
    var cookie: UInt64 = 0
    /// In nanoseconds.
    var arrival: UInt64 = 0
    /// In bytes.
    var length: UInt32 = 0
    /// The first cell of its kind; -1: the place is vacant.
    var kind: Int32 = -1
  }

  private var entries: UnsafeMutablePointer<Entry>
  private var bits: Int
  private(set) var count = 0

  init() {
    bits = 8
    entries = .allocate(capacity: 1 << bits)
    entries.initialize(repeating: Entry(), count: 1 << bits)
  }

  deinit { entries.deallocate() }

  private var mask: Int { (1 << bits) - 1 }

  @inline(__always)
  private func home(of cookie: UInt64) -> Int {
    Int(truncatingIfNeeded: (cookie &* 0x9e37_79b9_7f4a_7c15) >> UInt64(64 - bits))
  }

  /// Whether the cookie was new.
  @inline(__always)
  mutating func insert(_ cookie: UInt64, kind: RelayCounters.Cell, length: UInt32, arrival: UInt64) -> Bool {
    if count * 2 >= mask { grow() }
    var place = home(of: cookie)
    while entries[place].kind >= 0 {
      if entries[place].cookie == cookie { return false }
      place = (place + 1) & mask
    }
    entries[place] = Entry(cookie: cookie, arrival: arrival, length: length, kind: Int32(kind.rawValue))
    count += 1
    return true
  }

  @inline(__always)
  mutating func remove(_ cookie: UInt64) -> Entry? {
    var place = home(of: cookie)
    while entries[place].kind >= 0 {
      if entries[place].cookie == cookie {
        let entry = entries[place]
        close(place)
        count -= 1
        return entry
      }
      place = (place + 1) & mask
    }
    return nil
  }

  /// Moves up those behind a vacated place that would not be found any more.
  @inline(__always)
  private func close(_ vacated: Int) {
    var hole = vacated
    var place = (hole + 1) & mask
    while entries[place].kind >= 0 {
      let distance = (place - home(of: entries[place].cookie)) & mask
      if distance >= (place - hole) & mask {
        entries[hole] = entries[place]
        hole = place
      }
      place = (place + 1) & mask
    }
    entries[hole].kind = -1
  }

  mutating func removeAll() {
    for place in 0...mask { entries[place].kind = -1 }
    count = 0
  }

  private mutating func grow() {
    let old = entries
    let oldSize = 1 << bits
    bits += 1
    entries = .allocate(capacity: 1 << bits)
    entries.initialize(repeating: Entry(), count: 1 << bits)
    for index in 0..<oldSize where old[index].kind >= 0 {
      var place = home(of: old[index].cookie)
      while entries[place].kind >= 0 { place = (place + 1) & mask }
      entries[place] = old[index]
    }
    old.deallocate()
  }
}
