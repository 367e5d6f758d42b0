import Glibc

/// Where a link's replies arrive, one behind the other.
///
/// What lies before `start` may still be on its way to the kernel; `prepare` is called only when it no longer is.
/// Concurrency model: the relay's thread alone.
struct ReceiveBuffer {
  /// In bytes: two replies of 128 KiB lie in it without being moved. Larger ones make it larger, until `trim`.
  static let usualSize = (256 << 10) + 4096
  /// With less room than this behind what is there, it is worth beginning at the front again.
  private static let smallRoom = 64 << 10

  private var memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
  /// Where the next reply begins.
  private(set) var start = 0
  private(set) var end = 0
  /// Of the reply at `start`, header and payload, in bytes.
  private(set) var needed = Wire.replySize
  private var wasUsed = false

  var count: Int { end - start }
  var mapped: Int { memory.count }
  /// Must not be asked when nothing is mapped, which is before the first `prepare`.
  var next: UnsafeMutableRawPointer? { memory.baseAddress.map { $0 + start } }

  /// Room for what comes next, never empty; `nil` when there is no memory.
  mutating func prepare() -> UnsafeMutableRawBufferPointer? {
    wasUsed = true
    if start == end {
      start = 0
      end = 0
    }
    if memory.count < needed || memory.baseAddress == nil {
      guard grow(to: max(needed, ReceiveBuffer.usualSize)) else { return nil }
    } else if memory.count - start < needed || (memory.count - end < ReceiveBuffer.smallRoom && count < 4096) {
      moveToFront()
    }
    // With little room behind this reply, it is read alone, so that nothing has to be moved.
    let isLast = needed > Wire.replySize && memory.count - (start + needed) < ReceiveBuffer.smallRoom
    let limit = isLast ? start + needed : memory.count
    return UnsafeMutableRawBufferPointer(rebasing: memory[end..<limit])
  }

  mutating func received(_ count: Int) { end += count }

  /// The reply at `start` has `size` bytes.
  @inline(__always)
  mutating func consume(_ size: Int) {
    start += size
    needed = Wire.replySize
  }

  /// The reply at `start` will have `size` bytes, not all of which are there.
  mutating func need(_ size: Int) { needed = size }

  private mutating func moveToFront() {
    guard let base = memory.baseAddress, start > 0 else { return }
    memmove(base, base + start, count)
    end -= start
    start = 0
  }

  private mutating func grow(to size: Int) -> Bool {
    guard let larger = MappedMemory.map(size), let target = larger.baseAddress else { return false }
    if let base = memory.baseAddress {
      memcpy(target, base + start, count)
      MappedMemory.unmap(memory)
    }
    end -= start
    start = 0
    memory = larger
    return true
  }

  /// Gives memory back when nothing has come since the last call and nothing is there. Whether there is something left
  /// to give back later.
  mutating func trim() -> Bool {
    guard memory.baseAddress != nil else { return false }
    if wasUsed || count > 0 {
      wasUsed = false
      return true
    }
    free()
    return false
  }

  mutating func free() {
    if memory.baseAddress != nil { MappedMemory.unmap(memory) }
    memory = UnsafeMutableRawBufferPointer(start: nil, count: 0)
    start = 0
    end = 0
  }
}
