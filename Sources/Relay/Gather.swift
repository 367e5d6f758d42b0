import Glibc

/// Bytes to send, in order, from several places: what one sendmsg(2) takes.
///
/// A type of ours, so that no transport has C's iovec in what it promises: of which module that is depends on the order of
/// imports. Neighbours in memory become one part. What they point at must stay until they are sent or dropped.
/// Concurrency model: the relay's thread alone.
package struct Gather {
  private let parts: UnsafeMutablePointer<iovec>
  private let capacity: Int
  private var first = 0
  private var end = 0

  package init(capacity: Int) {
    self.capacity = capacity
    parts = .allocate(capacity: capacity)
  }

  package func free() { parts.deallocate() }

  var isEmpty: Bool { first == end }
  /// How many parts still fit.
  var room: Int { capacity - end }

  /// The caller has seen that there is room.
  @inline(__always)
  package mutating func append(_ address: UnsafeMutableRawPointer, _ count: Int) {
    if end > first, let last = parts[end - 1].iov_base, last + parts[end - 1].iov_len == address {
      parts[end - 1].iov_len += count
    } else if end < capacity {
      parts[end] = iovec(iov_base: address, iov_len: count)
      end += 1
    }
  }

  /// What is still to be sent.
  var rest: UnsafeBufferPointer<iovec> { UnsafeBufferPointer(start: parts + first, count: end - first) }

  /// Drops `count` bytes from the front.
  @inline(__always)
  mutating func advance(_ count: Int) {
    var left = count
    while first < end {
      if left < parts[first].iov_len {
        parts[first].iov_base += left
        parts[first].iov_len -= left
        return
      }
      left -= parts[first].iov_len
      first += 1
    }
    clear()
  }

  mutating func clear() {
    first = 0
    end = 0
  }
}
