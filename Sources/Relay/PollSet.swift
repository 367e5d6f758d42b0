import Glibc

/// What one poll(2) looks at: the bell, the kernel's socket, and the links.
///
/// Concurrency model: the relay's thread alone.
struct PollSet {
  static let bell = 0
  static let kernel = 1

  private var entries: UnsafeMutablePointer<pollfd>
  private var capacity = 8
  private var count = 0

  init() { entries = .allocate(capacity: capacity) }

  func free() { entries.deallocate() }

  mutating func begin(bell: Int32) {
    entries[PollSet.bell] = pollfd(fd: bell, events: Int16(POLLIN), revents: 0)
    count = 2
  }

  /// The kernel's end of file is wanted even when nothing is read.
  func setKernel(_ descriptor: Int32, reads: Bool, writes: Bool) {
    let events = (reads ? POLLIN : 0) | (writes ? POLLOUT : 0)
    entries[PollSet.kernel] = pollfd(fd: descriptor, events: Int16(events), revents: 0)
  }

  /// What was learnt of the kernel's socket is of another than the one there is now.
  func forgetKernel() { entries[PollSet.kernel].revents = 0 }

  /// The index to ask with afterwards. A socket of which nothing is wanted is left out: its end would be told for ever.
  mutating func add(_ descriptor: Int32, reads: Bool, writes: Bool) -> Int {
    if count == capacity { grow() }
    let events = (reads ? POLLIN : 0) | (writes ? POLLOUT : 0)
    entries[count] = pollfd(fd: events == 0 ? -1 : descriptor, events: Int16(events), revents: 0)
    count += 1
    return count - 1
  }

  private mutating func grow() {
    let larger = UnsafeMutablePointer<pollfd>.allocate(capacity: capacity * 2)
    larger.update(from: entries, count: count)
    entries.deallocate()
    entries = larger
    capacity *= 2
  }

  /// Until something can be done, or goes on at once.
  func poll(canSleep: Bool) {
    let result = Glibc.poll(entries, nfds_t(count), canSleep ? -1 : 0)
    // Interrupted: what stands in `revents` is not defined.
    if result < 0 { for index in 0..<count { entries[index].revents = 0 } }
  }

  /// Data, an end of file or an error wait to be read.
  @inline(__always)
  func isReadable(_ index: Int) -> Bool {
    Int32(entries[index].revents) & (POLLIN | POLLHUP | POLLERR | POLLNVAL) != 0
  }

  /// The other side has closed both directions, or there was an error.
  func hasEnded(_ index: Int) -> Bool { Int32(entries[index].revents) & (POLLHUP | POLLERR | POLLNVAL) != 0 }

  @inline(__always)
  func isWritable(_ index: Int) -> Bool { Int32(entries[index].revents) & (POLLOUT | POLLERR | POLLHUP) != 0 }
}
