import CGnuTLS
import Glibc

/// The ciphertext on its way between GnuTLS and a nonblocking socket, or a test: a large buffer each way, so that many
/// records cost one system call. Allocated once; the pages are touched as they are needed.
///
/// Concurrency model: as the session that it belongs to.
final class TLSTransport {
  /// Of each buffer, in bytes.
  static let capacity = 256 << 10

  /// `nil`: bytes come by `feed` and go by `drain`.
  private let descriptor: Int32?
  private var incoming = CiphertextBuffer()
  private var outgoing = CiphertextBuffer()
  private var isAtEnd = false
  private var hasEndedOutput = false
  /// Of the last call on the socket that failed for good.
  private(set) var failure: TLSError?
  /// The last call on the socket found the system without memory: an EAGAIN of which poll(2) knows nothing.
  private(set) var isShortOfMemory = false
  /// Whose errno is set.
  var session: gnutls_session_t?

  init(descriptor: Int32?) { self.descriptor = descriptor }

  var hasIncoming: Bool { incoming.count > 0 }
  var hasOutgoing: Bool { outgoing.count > 0 }
  var room: Int { outgoing.room }

  /// Lets GnuTLS read and write here; the transport must outlive the session.
  func serve(_ session: gnutls_session_t) {
    self.session = session
    gnutls_transport_set_ptr(session, Unmanaged.passUnretained(self).toOpaque())
    gnutls_transport_set_pull_function(session) { transport, buffer, count in
      TLSTransport.from(transport)?.pull(buffer, count) ?? -1
    }
    gnutls_transport_set_push_function(session) { transport, bytes, count in
      TLSTransport.from(transport)?.push(bytes, count) ?? -1
    }
    // Never waits: whether there is something shows in the pull.
    gnutls_transport_set_pull_timeout_function(session) { _, _ in 1 }
  }

  private static func from(_ pointer: gnutls_transport_ptr_t?) -> TLSTransport? {
    pointer.map { Unmanaged<TLSTransport>.fromOpaque($0).takeUnretainedValue() }
  }

  private func pull(_ target: UnsafeMutableRawPointer?, _ count: Int) -> Int {
    guard let target, count > 0 else { return 0 }
    if incoming.count == 0, !isAtEnd {
      if let code = refill() {
        gnutls_transport_set_errno(session, code)
        return -1
      }
    }
    return incoming.take(UnsafeMutableRawBufferPointer(start: target, count: count))
  }

  /// The errno where nothing came; without one there are bytes now, or the end.
  private func refill() -> Int32? {
    guard let descriptor else { return EAGAIN }
    while true {
      let count = incoming.fill { recv(descriptor, $0.baseAddress, $0.count, 0) }
      isShortOfMemory = false
      if count > 0 { return nil }
      if count == 0 {
        isAtEnd = true
        return nil
      }
      let code = errno
      if code == EINTR { continue }
      if isPassing(code) { return EAGAIN }
      failure = .system("recv", code)
      return code
    }
  }

  private func push(_ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
    // An answer to a record that is not data, such as KeyUpdate: nobody listens.
    if hasEndedOutput { return count }
    if outgoing.room < count { flush() }
    let taken = outgoing.put(UnsafeRawBufferPointer(start: bytes, count: count))
    if taken > 0 || count == 0 { return taken }
    gnutls_transport_set_errno(session, failure == nil ? EAGAIN : EPIPE)
    return -1
  }

  /// Sends what the socket takes; a failure is kept in `failure`.
  func flush() {
    guard let descriptor else { return }
    while outgoing.count > 0, failure == nil {
      let sent = outgoing.drain { send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      isShortOfMemory = false
      if sent >= 0 { continue }
      let code = errno
      if code == EINTR { continue }
      if !isPassing(code) { failure = .system("send", code) }
      return
    }
  }

  /// Drops what the socket has not taken, and all that comes. Without a socket nothing changes.
  func endOutput() {
    guard descriptor != nil else { return }
    hasEndedOutput = true
    outgoing.removeAll()
  }

  func trimMemory() -> Bool {
    let isIncomingUsed = incoming.trim()
    return outgoing.trim() || isIncomingUsed
  }

  private func isPassing(_ code: Int32) -> Bool {
    isShortOfMemory = code == ENOBUFS || code == ENOMEM
    return isShortOfMemory || code == EAGAIN
  }

  // MARK: Without a socket

  /// Takes as many of the peer's bytes as there is room for; how many.
  func feed(_ bytes: UnsafeRawBufferPointer) -> Int { incoming.put(bytes) }

  /// The peer has closed.
  func feedEnd() { isAtEnd = true }

  /// Moves bytes for the peer into `target`; how many.
  func drain(into target: UnsafeMutableRawBufferPointer) -> Int { outgoing.take(target) }
}

/// A queue of bytes in one allocation.
private struct CiphertextBuffer: ~Copyable {
  /// MADV_DONTNEED_LOCKED (asm-generic/mman-common.h, since Linux 5.18): also where the process has locked its memory.
  private static let dontNeedLocked: Int32 = 24

  private let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: TLSTransport.capacity, alignment: 4096)
  private var start = 0
  private var end = 0
  private var wasUsed = false
  private var isTouched = false

  deinit { storage.deallocate() }

  var count: Int { end - start }
  var room: Int { storage.count - count }

  /// Lets go of pages that have not been needed since the last call. Whether there are more to let go of.
  mutating func trim() -> Bool {
    guard isTouched else { return false }
    if wasUsed || count > 0 {
      wasUsed = false
      return true
    }
    isTouched = madvise(storage.baseAddress, storage.count, Self.dontNeedLocked) != 0
    // Where the kernel can't, it is not asked every second.
    return false
  }

  private mutating func use() {
    wasUsed = true
    isTouched = true
  }

  mutating func put(_ bytes: UnsafeRawBufferPointer) -> Int {
    use()
    let taken = min(bytes.count, room)
    if storage.count - end < taken { moveToFront() }
    UnsafeMutableRawBufferPointer(rebasing: storage[end..<end + taken]).copyMemory(
      from: UnsafeRawBufferPointer(rebasing: bytes[..<taken]))
    end += taken
    return taken
  }

  mutating func take(_ target: UnsafeMutableRawBufferPointer) -> Int {
    let taken = min(target.count, count)
    target.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[start..<start + taken]))
    remove(taken)
    return taken
  }

  /// `read` puts bytes in and returns how many, or -1. The buffer must be empty.
  mutating func fill(_ read: (UnsafeMutableRawBufferPointer) -> Int) -> Int {
    use()
    let count = read(storage)
    start = 0
    end = min(max(0, count), storage.count)
    return count
  }

  /// `write` takes bytes out and returns how many, or -1.
  mutating func drain(_ write: (UnsafeRawBufferPointer) -> Int) -> Int {
    let written = write(UnsafeRawBufferPointer(rebasing: storage[start..<end]))
    remove(min(max(0, written), count))
    return written
  }

  mutating func removeAll() { (start, end) = (0, 0) }

  private mutating func remove(_ bytes: Int) {
    start += bytes
    if start == end { (start, end) = (0, 0) }
  }

  private mutating func moveToFront() {
    storage.copyMemory(from: UnsafeRawBufferPointer(rebasing: storage[start..<end]))
    (start, end) = (0, end - start)
  }
}
