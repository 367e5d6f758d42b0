import Glibc

/// The address of a Unix socket.
struct SocketAddress {
  let path: String
  private let address: sockaddr_un

  init(path: String) throws(ControlError) {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    let capacity = MemoryLayout.size(ofValue: address.sun_path)
    // One byte less than the capacity, so that a NUL ends it.
    guard !bytes.isEmpty, bytes.count < capacity, !bytes.contains(0) else { throw .pathTooLong(path: path) }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    self.path = path
    self.address = address
  }

  /// Calls `bind` or `connect`; 0, or the errno.
  func pass(to call: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
    withUnsafePointer(to: address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        call($0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0 ? 0 : Glibc.errno
      }
    }
  }

  /// A stream socket, not blocking, closed on exec.
  func makeSocket() throws(ControlError) -> Int32 {
    let type = SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue
    let fd = socket(AF_UNIX, Int32(type), 0)
    if fd < 0 { throw error("socket", Glibc.errno) }
    return fd
  }

  func error(_ call: String, _ code: Int32) -> ControlError { .system(call: call, path: path, code: code) }
}
