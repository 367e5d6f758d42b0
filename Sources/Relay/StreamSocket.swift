import CLinuxNBD
import Glibc

/// The calls on a nonblocking stream socket that the relay makes for every batch of requests.
enum StreamSocket {
  private static var flags: Int32 { Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT) }

  @inline(__always)
  static func receive(_ number: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
    while true {
      let count = recv(number, buffer.baseAddress, buffer.count, flags)
      if count > 0 { return .moved(count) }
      if count == 0 { return .ended(0) }
      if let answer = failure(errno) { return answer }
    }
  }

  @inline(__always)
  static func send(_ number: Int32, _ parts: UnsafeBufferPointer<iovec>) -> Transfer {
    while true {
      let count: Int
      if parts.count == 1 {
        count = Glibc.send(number, parts[0].iov_base, parts[0].iov_len, flags)
      } else {
        var message = msghdr()
        message.msg_iov = UnsafeMutablePointer(mutating: parts.baseAddress)
        message.msg_iovlen = parts.count
        count = sendmsg(number, &message, flags)
      }
      if count >= 0 { return .moved(count) }
      if let answer = failure(errno) { return answer }
    }
  }

  /// `nil`: again at once.
  private static func failure(_ code: Int32) -> Transfer? {
    switch code {
    case EINTR: nil
    case EAGAIN: .wouldBlock
    // No reason to lose a link; and the socket counts as ready all the while.
    case ENOBUFS, ENOMEM: .noMemory
    default: .ended(code)
    }
  }
}
