import Glibc

/// Memory for what the kernel sends: a write's payload stays where it was received until nobody needs it.
///
/// A segment holds many requests and is free again when none of them is referenced. Free ones of the usual size are
/// kept, the last used first because it is still in the cache, and given back to the kernel by `trim`.
///
/// Concurrency model: the relay's thread alone.
final class SegmentPool {
  struct Segment {
    /// Empty: no memory behind it.
    var memory: UnsafeMutableRawBufferPointer
    var references: Int32
  }

  /// In bytes, of a usual segment; a larger request gets one of its own size.
  static let usualSize = 2 << 20

  private var table: UnsafeMutablePointer<Segment>
  private var tableSize: Int
  /// The indices of the table that have no memory behind them.
  private var vacant: [Int32] = []
  /// Usual segments with memory that nobody references.
  private var free: [Int32] = []
  /// How many segments of `free` have not been needed since the last `trim`.
  private var idle = 0
  /// In bytes, of all segments.
  private(set) var mapped = 0
  /// In bytes, of those that are referenced.
  var used: Int { mapped - free.count * SegmentPool.usualSize }

  init() {
    tableSize = 64
    table = .allocate(capacity: tableSize)
    vacant.reserveCapacity(1024)
    free.reserveCapacity(1024)
    growVacant(from: 0)
  }

  deinit {
    for index in 0..<tableSize where !table[index].memory.isEmpty { MappedMemory.unmap(table[index].memory) }
    table.deallocate()
  }

  private func growVacant(from first: Int) {
    for index in (first..<tableSize).reversed() {
      (table + index).initialize(
        to: Segment(memory: UnsafeMutableRawBufferPointer(start: nil, count: 0), references: 0))
      vacant.append(Int32(index))
    }
  }

  @inline(__always)
  func memory(_ index: Int32) -> UnsafeMutableRawBufferPointer { table[Int(index)].memory }

  @inline(__always)
  func references(_ index: Int32) -> Int32 { table[Int(index)].references }

  @inline(__always)
  func retain(_ index: Int32) { table[Int(index)].references &+= 1 }

  /// One reference less; with the last one the segment is free.
  @inline(__always)
  func release(_ index: Int32) {
    let segment = table + Int(index)
    segment.pointee.references &-= 1
    if segment.pointee.references == 0 { recycle(index) }
  }

  /// A segment of at least `size` bytes with one reference; `nil` when there is no memory.
  func take(atLeast size: Int) -> Int32? {
    if size <= SegmentPool.usualSize, let index = free.popLast() {
      idle = min(idle, free.count)
      table[Int(index)].references = 1
      return index
    }
    guard let memory = MappedMemory.map(max(size, SegmentPool.usualSize)) else { return nil }
    if vacant.isEmpty { growTable() }
    guard let index = vacant.popLast() else { return nil }
    mapped += memory.count
    table[Int(index)] = Segment(memory: memory, references: 1)
    return index
  }

  private func growTable() {
    let larger = UnsafeMutablePointer<Segment>.allocate(capacity: tableSize * 2)
    larger.moveInitialize(from: table, count: tableSize)
    table.deallocate()
    table = larger
    let first = tableSize
    tableSize *= 2
    growVacant(from: first)
  }

  private func recycle(_ index: Int32) {
    if table[Int(index)].memory.count == SegmentPool.usualSize { free.append(index) } else { unmap(index) }
  }

  private func unmap(_ index: Int32) {
    let memory = table[Int(index)].memory
    mapped -= memory.count
    MappedMemory.unmap(memory)
    table[Int(index)].memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    vacant.append(index)
  }

  /// Gives back what has not been needed since the last call. Whether something free is left for the next one.
  func trim() -> Bool {
    // `idle` counts from the bottom of the stack: those were not touched.
    for index in free[..<idle] { unmap(index) }
    free.removeFirst(idle)
    idle = free.count
    return idle > 0
  }
}
