import CLinuxNBD
import Glibc

/// Where netlink datagrams go and come from: the kernel, or a script of one in tests.
package protocol NetlinkChannel: Sendable {
  /// Hands a datagram to the kernel, which works on it before this returns: it can hang.
  func send(_ datagram: [UInt8]) throws(SystemCallError)
  /// The next datagram; `nil` for one that did not come from the kernel, which nobody may believe. Throws ENOBUFS,
  /// once, when some were lost; EAGAIN when none comes.
  func receive() throws(SystemCallError) -> [UInt8]?
}

/// A generic netlink socket, with extended acknowledgements on and requests left out of them.
package final class NetlinkSocket: NetlinkChannel {
  /// The file is the owner's to watch; it closes when the last of its owners has gone.
  package let file: OpenFile

  /// A STATUS of all devices that the driver can have fits (20 bytes each).
  static let largestDatagram = 4 << 20

  private init(_ file: OpenFile) { self.file = file }

  /// For requests: `receive` waits, but no longer than a few seconds, because answers are there when `send` returns.
  package static func forRequests() throws(SystemCallError) -> NetlinkSocket {
    let socket = try open(extraType: 0)
    var patience = timeval(tv_sec: 5, tv_usec: 0)
    try socket.set(SOL_SOCKET, SO_RCVTIMEO, &patience, "SO_RCVTIMEO")
    return socket
  }

  /// For events: `receive` never waits. `bufferSize` in bytes is what the kernel keeps of unread events.
  package static func forEvents(bufferSize: Int32) throws(SystemCallError) -> NetlinkSocket {
    let socket = try open(extraType: Int32(SOCK_NONBLOCK.rawValue))
    var size = bufferSize
    // Above net.core.rmem_max with CAP_NET_ADMIN only; as much as is allowed without.
    do { try socket.set(SOL_SOCKET, SO_RCVBUFFORCE, &size, "SO_RCVBUFFORCE") } catch {
      try socket.set(SOL_SOCKET, SO_RCVBUF, &size, "SO_RCVBUF")
    }
    return socket
  }

  private static func open(extraType: Int32) throws(SystemCallError) -> NetlinkSocket {
    let type = Int32(SOCK_RAW.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | extraType
    let number = Glibc.socket(AF_NETLINK, type, NETLINK_GENERIC)
    guard number >= 0 else { throw lastError("socket AF_NETLINK") }
    let socket = NetlinkSocket(OpenFile(FileDescriptor(owning: number)))
    var address = sockaddr_nl()
    address.nl_family = sa_family_t(AF_NETLINK)
    let result = withUnsafeBytes(of: &address) { bytes in
      bytes.baseAddress.map { bind(number, $0.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count)) } ?? -1
    }
    guard result == 0 else { throw lastError("bind AF_NETLINK") }
    var on: Int32 = 1
    try socket.set(SOL_NETLINK, NETLINK_EXT_ACK, &on, "NETLINK_EXT_ACK")
    try socket.set(SOL_NETLINK, NETLINK_CAP_ACK, &on, "NETLINK_CAP_ACK")
    return socket
  }

  /// Subscribes to a multicast group by its number. Takes the kernel's generic-netlink lock: it can hang.
  package func join(group: UInt32) throws(SystemCallError) {
    var group = group
    try set(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, "NETLINK_ADD_MEMBERSHIP")
  }

  package func send(_ datagram: [UInt8]) throws(SystemCallError) {
    var kernel = sockaddr_nl()
    kernel.nl_family = sa_family_t(AF_NETLINK)
    _ = try retryingOnEINTR("sendto") {
      withUnsafeBytes(of: &kernel) { address in
        sendto(
          file.number, datagram, datagram.count, 0, address.baseAddress?.assumingMemoryBound(to: sockaddr.self),
          socklen_t(address.count))
      }
    }
  }

  package func receive() throws(SystemCallError) -> [UInt8]? {
    // With MSG_TRUNC the answer is the datagram's length, whatever the buffer's is.
    let peek = Int32(MSG_PEEK) | Int32(MSG_TRUNC)
    let length = try retryingOnEINTR("recv") { recv(file.number, nil, 0, peek) }
    var buffer = [UInt8](repeating: 0, count: min(length, NetlinkSocket.largestDatagram))
    var sender = sockaddr_nl()
    var senderLength = socklen_t(MemoryLayout<sockaddr_nl>.size)
    let count = try retryingOnEINTR("recvfrom") {
      withUnsafeMutableBytes(of: &sender) { address in
        recvfrom(
          file.number, &buffer, buffer.count, Int32(MSG_TRUNC),
          address.baseAddress?.assumingMemoryBound(to: sockaddr.self), &senderLength)
      }
    }
    guard senderLength == MemoryLayout<sockaddr_nl>.size, sender.nl_pid == 0 else { return nil }
    guard count <= buffer.count else { throw SystemCallError("recvfrom", EMSGSIZE) }
    buffer.removeLast(buffer.count - count)
    return buffer
  }

  private func set<Value: BitwiseCopyable>(
    _ level: Int32, _ option: Int32, _ value: inout Value, _ name: String
  ) throws(SystemCallError) {
    guard setsockopt(file.number, level, option, &value, socklen_t(MemoryLayout<Value>.size)) == 0 else {
      throw lastError("setsockopt \(name)")
    }
  }
}
