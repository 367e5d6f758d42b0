import AttachmentModel
import Glibc
import LinuxKernel

/// A listening socket that can be closed, and opened again at the same address.
struct ServerListener {
  let address: ServerAddress
  /// `nil` while it is closed. A port of TCP stays bound then, so that no other program takes it.
  private(set) var socket: OpenFile?
  private var bound: OpenFile?

  /// Port 0: a free one.
  init(_ address: ServerAddress) throws(SystemCallError) {
    guard case .tcp(let host, 0) = address else {
      self.address = address
      try open()
      return
    }
    // Only a port that was asked for by its number stays with a socket that stops listening (tcp_set_state).
    let probe = try Self.bind(.tcp(host: host, port: 0))
    var name = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let result = withUnsafeMutableBytes(of: &name) { bytes in
      getsockname(probe.number, bytes.bindMemory(to: sockaddr.self).baseAddress, &length)
    }
    guard result == 0 else { throw SystemCallError("getsockname", errno) }
    self.address = .tcp(host: host, port: UInt16(bigEndian: name.sin_port))
    bound = try Self.bind(self.address)
    try open()
  }

  mutating func open() throws(SystemCallError) {
    guard socket == nil else { return }
    let file: OpenFile
    if let bound { file = bound } else { file = try Self.bind(address) }
    guard Glibc.listen(file.number, 512) == 0 else { throw SystemCallError("listen", errno) }
    socket = file
  }

  /// Connections are refused from now on.
  mutating func close() {
    guard let socket else { return }
    Socket.shutDown(socket.number)
    self.socket = nil
  }

  /// `nil` when nobody waits.
  static func accept(_ number: Int32) -> OpenFile? {
    let accepted = Glibc.accept(number, nil, nil)
    guard accepted >= 0 else { return nil }
    _ = fcntl(accepted, F_SETFL, O_NONBLOCK)
    _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
    var one: Int32 = 1
    _ = setsockopt(accepted, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
    return OpenFile(FileDescriptor(owning: accepted))
  }

  private static func bind(_ address: ServerAddress) throws(SystemCallError) -> OpenFile {
    let target: SocketAddress
    switch address {
    case .unix(let path, let isAbstract):
      target = try .unix(path: path, isAbstract: isAbstract)
      unlink(path)
      return try bind(target.bytes, AF_UNIX)
    case .tcp(let host, let port):
      var name = sockaddr_in()
      name.sin_family = sa_family_t(AF_INET)
      name.sin_port = port.bigEndian
      inet_pton(AF_INET, host, &name.sin_addr)
      return try bind(withUnsafeBytes(of: name) { Array($0) }, AF_INET)
    case .vsock(let cid, let port):
      return try bind(SocketAddress.vsock(cid: cid, port: port).bytes, AF_VSOCK)
    }
  }

  private static func bind(_ address: [UInt8], _ family: Int32) throws(SystemCallError) -> OpenFile {
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    let number = Glibc.socket(family, type, 0)
    guard number >= 0 else { throw SystemCallError("socket", errno) }
    let file = OpenFile(FileDescriptor(owning: number))
    var one: Int32 = 1
    _ = setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &one, 4)
    let result = address.withUnsafeBytes { bytes in
      Glibc.bind(number, bytes.bindMemory(to: sockaddr.self).baseAddress, socklen_t(bytes.count))
    }
    guard result == 0 else { throw SystemCallError("bind", errno) }
    return file
  }
}
