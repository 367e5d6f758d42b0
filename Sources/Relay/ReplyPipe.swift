import CLinuxNBD
import Glibc
import RelayModel

/// A pipe through which the payload of a long READ goes from a link to the kernel without being copied: splice(2) passes
/// the pages of one socket on to the other.
///
/// Nothing of a reply goes to the kernel before all of it is in the pipe, so that a link which is lost in the middle
/// leaves no half of one. Concurrency model: the relay's thread alone.
struct ReplyPipe {
  /// Payloads that are worth the calls, in bytes.
  static let smallestPayload = RelayLedger.longRead
  /// In bytes. With frames of 1500 bytes this is some 180 pieces, each of which takes a page's place in the pipe.
  static let largestPayload = 256 << 10
  /// In bytes: 256 places.
  private static let capacity: Int32 = 1 << 20

  private var output: Int32 = -1
  private var input: Int32 = -1
  /// What it holds, in bytes.
  private(set) var count = 0
  private var wasUsed = false

  enum Fill: Equatable {
    /// All that was wanted is there.
    case complete
    /// Nothing is there for now.
    case wouldBlock
    case noMemory
    /// The socket can't be read so, or what comes is in too many pieces: `drain` gives back what there is.
    case unsuited
    /// As of a transport.
    case ended(Int32)
  }

  /// Moves from the socket what is there of the next `left` bytes, and takes them off `left`.
  mutating func fill(from socket: Int32, left: inout Int) -> Fill {
    wasUsed = true
    guard input >= 0 || open() else { return .unsuited }
    var isReadable = false
    while left > 0 {
      let moved = splice(socket, nil, input, nil, left, K_SPLICE_F_MOVE | K_SPLICE_F_NONBLOCK)
      if moved > 0 {
        left -= moved
        count += moved
        isReadable = false
        continue
      }
      guard moved < 0 else { return .ended(0) }
      switch errno {
      case EINTR: continue
      case EAGAIN:
        // There was something to read, so that it is the pipe that has no room.
        if isReadable { return .unsuited }
        isReadable = hasUnread(socket)
        if !isReadable { return .wouldBlock }
      case ENOMEM, ENOBUFS: return .noMemory
      // Sockets without it, and processes that must not.
      case EINVAL, EOPNOTSUPP, ENOSYS, EPERM: return .unsuited
      case let code: return .ended(code)
      }
    }
    return .complete
  }

  private func hasUnread(_ socket: Int32) -> Bool {
    guard count > 0 else { return false }
    var poll = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
    return Glibc.poll(&poll, 1, 0) == 1 && Int32(poll.revents) & POLLIN != 0
  }

  /// Moves what it holds into the kernel's socket: `moved` when it is empty.
  mutating func empty(into socket: Int32) -> Transfer {
    let all = count
    while count > 0 {
      let moved = splice(output, nil, socket, nil, count, K_SPLICE_F_MOVE | K_SPLICE_F_NONBLOCK)
      if moved > 0 {
        count -= moved
        continue
      }
      guard moved < 0 else { return .ended(0) }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      case ENOMEM, ENOBUFS: return .noMemory
      case let code: return .ended(code)
      }
    }
    return .moved(all)
  }

  /// Copies what it holds to `target`, which must have room for it; whether that was possible.
  mutating func drain(to target: UnsafeMutableRawPointer) -> Bool {
    var place = target
    while count > 0 {
      let taken = read(output, place, count)
      if taken < 0, errno == EINTR { continue }
      guard taken > 0 else { return false }
      place += taken
      count -= taken
    }
    return true
  }

  private mutating func open() -> Bool {
    var ends: [Int32] = [-1, -1]
    guard pipe2(&ends, Int32(O_CLOEXEC) | Int32(O_NONBLOCK)) == 0 else { return false }
    (output, input) = (ends[0], ends[1])
    // With less than that more replies are copied.
    _ = fcntl(input, K_F_SETPIPE_SZ, ReplyPipe.capacity)
    return true
  }

  /// Forgets what it holds.
  mutating func close() {
    guard input >= 0 else { return }
    _ = Glibc.close(input)
    _ = Glibc.close(output)
    (output, input, count) = (-1, -1, 0)
  }

  /// Closed when nothing has passed since the last call. Whether it is open still.
  mutating func trim() -> Bool {
    if !wasUsed, count == 0 { close() }
    wasUsed = false
    return input >= 0
  }
}
