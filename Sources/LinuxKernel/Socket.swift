import CLinuxNBD
import Glibc

/// An address that connect(2) takes, and how people write it.
package struct SocketAddress: Equatable, Sendable, CustomStringConvertible {
  /// A `sockaddr_*` of the family in its first two bytes.
  package let bytes: [UInt8]
  /// Such as `192.0.2.1 port 10809`, `[2001:db8::1] port 10809`, `/run/nbd.sock`, `vsock 3:10809`.
  package let description: String

  package var family: Int32 { bytes.withUnsafeBytes { Int32($0.loadUnaligned(as: sa_family_t.self)) } }
  package var isIP: Bool { family == AF_INET || family == AF_INET6 }

  /// In bytes, of a path or an abstract name: `sun_path` has 108, of which one is the NUL after or before it.
  package static let longestUnixPath = 107

  /// Throws ENAMETOOLONG when the name does not fit.
  package static func unix(path: String, isAbstract: Bool) throws(SystemCallError) -> SocketAddress {
    var name = Array(path.utf8)
    guard name.count <= longestUnixPath, !name.isEmpty else {
      throw SystemCallError("connect \(path)", name.isEmpty ? EINVAL : ENAMETOOLONG)
    }
    // An abstract name begins with a NUL and ends with the address; a path ends with a NUL.
    if isAbstract { name.insert(0, at: 0) } else { name.append(0) }
    let family = withUnsafeBytes(of: sa_family_t(AF_UNIX)) { Array($0) }
    return SocketAddress(bytes: family + name, description: isAbstract ? "@\(path)" : path)
  }

  package static func vsock(cid: UInt32, port: UInt32) -> SocketAddress {
    var address = sockaddr_vm()
    address.svm_family = sa_family_t(AF_VSOCK)
    address.svm_cid = cid
    address.svm_port = port
    return SocketAddress(bytes: withUnsafeBytes(of: address) { Array($0) }, description: "vsock \(cid):\(port)")
  }

  /// From getaddrinfo(3); the description is numeric.
  init(_ address: UnsafePointer<sockaddr>, length: socklen_t) {
    bytes = Array(UnsafeRawBufferPointer(start: address, count: Int(length)))
    var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    var service = [CChar](repeating: 0, count: Int(NI_MAXSERV))
    let code = getnameinfo(
      address, length, &host, socklen_t(host.count), &service, socklen_t(service.count),
      NI_NUMERICHOST | NI_NUMERICSERV)
    func text(_ chars: [CChar]) -> String {
      String(decoding: chars.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    let name = text(host)
    description = code == 0 ? "\(name.contains(":") ? "[\(name)]" : name) port \(text(service))" : "unknown address"
  }

  private init(bytes: [UInt8], description: String) {
    self.bytes = bytes
    self.description = description
  }
}

/// Stream sockets: calls that never block.
package enum Socket {
  /// What connect(2) of a nonblocking socket answered.
  package enum Connecting: Equatable, Sendable {
    case connected
    /// Wait until it is writable, then ask `takeError`.
    case inProgress
    /// AF_UNIX with a full backlog (EAGAIN): no readiness ever comes, so the caller tries again after a pause.
    case backlogFull
  }

  /// A nonblocking, close-on-exec stream socket for the family of `address`.
  package static func make(for address: SocketAddress) throws(SystemCallError) -> FileDescriptor {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let number = socket(address.family, type, 0)
    guard number >= 0 else { throw lastError("socket") }
    return FileDescriptor(owning: number)
  }

  package static func connect(_ number: Int32, to address: SocketAddress) throws(SystemCallError) -> Connecting {
    let result = address.bytes.withUnsafeBytes { bytes in
      guard let base = bytes.baseAddress else { return Int32(-1) }
      return Glibc.connect(number, base.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
    }
    if result == 0 { return .connected }
    switch errno {
    case EINPROGRESS, EINTR: return .inProgress
    case EAGAIN: return .backlogFull
    default: throw lastError("connect to \(address)")
    }
  }

  /// The pending error of a socket (SO_ERROR), 0 for none.
  package static func takeError(_ number: Int32) -> Int32 {
    var code: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    return getsockopt(number, SOL_SOCKET, SO_ERROR, &code, &length) == 0 ? code : errno
  }

  /// How long a peer may be gone before the kernel calls a TCP link dead. NBD links carry nothing while idle, so
  /// only keepalive finds a host that vanished, and only TCP_USER_TIMEOUT one that vanished with data under way.
  package struct Liveness: Equatable, Sendable {
    package var keepaliveIdle: Int32 = 10
    package var keepaliveInterval: Int32 = 5
    package var keepaliveCount: Int32 = 4
    /// In milliseconds.
    package var userTimeout: UInt32 = 30_000

    package init() {}
  }

  /// Sets TCP_NODELAY, keepalive and TCP_USER_TIMEOUT; for a TCP socket only.
  package static func tune(_ number: Int32, _ liveness: Liveness = Liveness()) throws(SystemCallError) {
    let tcp = Int32(IPPROTO_TCP)
    try set(number, tcp, TCP_NODELAY, Int32(1), "TCP_NODELAY")
    try set(number, SOL_SOCKET, SO_KEEPALIVE, Int32(1), "SO_KEEPALIVE")
    try set(number, tcp, TCP_KEEPIDLE, liveness.keepaliveIdle, "TCP_KEEPIDLE")
    try set(number, tcp, TCP_KEEPINTVL, liveness.keepaliveInterval, "TCP_KEEPINTVL")
    try set(number, tcp, TCP_KEEPCNT, liveness.keepaliveCount, "TCP_KEEPCNT")
    try set(number, tcp, TCP_USER_TIMEOUT, Int32(bitPattern: liveness.userTimeout), "TCP_USER_TIMEOUT")
  }

  /// Ends both directions at once: whoever else holds the socket, the kernel too, sees its end.
  package static func shutDown(_ number: Int32) {
    _ = shutdown(number, Int32(SHUT_RDWR))
  }

  /// Ends the direction to the peer, once what was sent has arrived.
  package static func finishSending(_ number: Int32) {
    _ = shutdown(number, Int32(SHUT_WR))
  }

  private static func set(
    _ number: Int32, _ level: Int32, _ option: Int32, _ value: Int32, _ name: String
  ) throws(SystemCallError) {
    var value = value
    guard setsockopt(number, level, option, &value, socklen_t(MemoryLayout<Int32>.size)) == 0 else {
      throw lastError("setsockopt \(name)")
    }
  }
}
