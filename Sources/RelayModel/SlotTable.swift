/// All slots, with a free list. Grows when it has never been so full; never shrinks.
///
/// In memory of its own, as this is the path of every request: a `Slot` is changed a field at a time many times over, and
/// an array would check at each whether it is shared. Indices come from the table itself, or from `find`, which checks.
struct SlotTable: ~Copyable {
  private var slots: UnsafeMutablePointer<Slot>
  private var capacity: Int
  /// The places that were ever used.
  private(set) var count = 0
  private var freeHead = noSlot

  init(capacity: Int) {
    self.capacity = max(capacity, 16)
    slots = .allocate(capacity: self.capacity)
  }

  // A slot holds nothing that would have to be deinitialized.
  deinit { slots.deallocate() }

  @inline(__always)
  subscript(_ index: SlotIndex) -> Slot {
    unsafeAddress { UnsafePointer(slots + Int(index)) }
    unsafeMutableAddress { slots + Int(index) }
  }

  private mutating func grow() {
    let grown = UnsafeMutablePointer<Slot>.allocate(capacity: capacity * 2)
    grown.moveInitialize(from: slots, count: count)
    slots.deallocate()
    slots = grown
    capacity *= 2
  }

  /// A slot in its first state but for its generation, in no list.
  mutating func take() -> SlotIndex {
    let index = freeHead
    guard index != noSlot else {
      if count == capacity { grow() }
      (slots + count).initialize(to: Slot())
      count += 1
      return SlotIndex(truncatingIfNeeded: count - 1)
    }
    freeHead = self[index].next
    let generation = self[index].generation
    self[index] = Slot()
    self[index].generation = generation
    return index
  }

  /// Must be in no list.
  mutating func free(_ index: SlotIndex) {
    self[index].state = .free
    self[index].generation &+= 1
    self[index].next = freeHead
    freeHead = index
  }

  func cookie(of index: SlotIndex) -> UInt64 {
    UInt64(self[index].generation) << 32 | UInt64(UInt32(bitPattern: index))
  }

  /// The slot that a cookie names, if it is still used by the one to whom the cookie was given.
  func find(_ cookie: UInt64) -> SlotIndex? {
    let place = Int(cookie & 0xffff_ffff)
    guard place < count, slots[place].generation == UInt32(truncatingIfNeeded: cookie >> 32) else { return nil }
    return SlotIndex(truncatingIfNeeded: place)
  }

  // Lists. The caller sets the state.

  mutating func append(_ index: SlotIndex, to list: inout SlotList) {
    self[index].previous = list.last
    self[index].next = noSlot
    if list.last == noSlot { list.first = index } else { self[list.last].next = index }
    list.last = index
    list.count += 1
  }

  /// Before the first of a greater order; what is inserted usually belongs near the front.
  mutating func insert(_ index: SlotIndex, byOrderInto list: inout SlotList) {
    let order = self[index].order
    var next = list.first
    while next != noSlot, self[next].order <= order { next = self[next].next }
    guard next != noSlot else { return append(index, to: &list) }
    let previous = self[next].previous
    self[index].previous = previous
    self[index].next = next
    self[next].previous = index
    if previous == noSlot { list.first = index } else { self[previous].next = index }
    list.count += 1
  }

  mutating func remove(_ index: SlotIndex, from list: inout SlotList) {
    let previous = self[index].previous
    let next = self[index].next
    if previous == noSlot { list.first = next } else { self[previous].next = next }
    if next == noSlot { list.last = previous } else { self[next].previous = previous }
    list.count -= 1
  }

  mutating func popFirst(of list: inout SlotList) -> SlotIndex? {
    let index = list.first
    guard index != noSlot else { return nil }
    remove(index, from: &list)
    return index
  }
}

/// Slots in an order, linked through themselves.
struct SlotList {
  var first = noSlot
  var last = noSlot
  var count = 0

  @inline(__always)
  var isEmpty: Bool { first == noSlot }
}
