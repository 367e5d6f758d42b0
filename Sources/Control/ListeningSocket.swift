import Glibc

/// The socket that the daemon listens on, under its name in the file system.
///
/// It appears there by one rename(2), listening already and with its final mode and group: no client ever sees it half
/// made, and a socket that a dead daemon left is replaced at once.
struct ListeningSocket {
  let fd: Int32
  private let address: SocketAddress
  private let inode: Inode

  /// Mode 0660; `group` where the system has such a group, else the process's own.
  init(path: String, group: String?) throws(ControlError) {
    address = try SocketAddress(path: path)
    let temporary = try SocketAddress(path: path + ".new")
    try ListeningSocket.expectNobody(at: address)
    unlink(temporary.path)
    let fd = try temporary.makeSocket()
    do throws(ControlError) {
      // With the socket's own mode at 0 the name is never open to anybody, whatever the umask.
      try temporary.check("fchmod", fchmod(fd, 0))
      let bound = temporary.pass { bind(fd, $0, $1) }
      if bound != 0 { throw temporary.error("bind", bound) }
      try ListeningSocket.open(temporary, to: group, fd)
      inode = try Inode(temporary)
      try temporary.check("rename", rename(temporary.path, path))
    } catch {
      unlink(temporary.path)
      close(fd)
      throw error
    }
    self.fd = fd
  }

  /// Takes the name out of the file system, unless another socket has it by now. The descriptor is the caller's.
  func removeName() {
    if let now = try? Inode(address), now == inode { unlink(address.path) }
  }

  private static func open(_ address: SocketAddress, to group: String?, _ fd: Int32) throws(ControlError) {
    if let group, let entry = getgrnam(group) {
      try address.check("chown", chown(address.path, UInt32.max, entry.pointee.gr_gid))
    }
    try address.check("chmod", chmod(address.path, 0o660))
    try address.check("listen", listen(fd, 64))
  }

  /// A socket that a daemon answers on is left alone, as is anything that is no socket.
  private static func expectNobody(at address: SocketAddress) throws(ControlError) {
    var status = stat()
    if lstat(address.path, &status) != 0 {
      if errno == ENOENT { return }
      throw address.error("lstat", errno)
    }
    if status.st_mode & S_IFMT != S_IFSOCK { throw .notASocket(path: address.path) }
    let fd = try address.makeSocket()
    defer { close(fd) }
    switch address.pass(to: { connect(fd, $0, $1) }) {
    case ECONNREFUSED, ENOENT: return
    // EAGAIN: the backlog is full, so somebody listens.
    case 0, EAGAIN: throw .alreadyServed(path: address.path)
    case let code: throw address.error("connect", code)
    }
  }

  /// What a name in the file system stands for.
  private struct Inode: Equatable {
    let device: dev_t
    let number: ino_t

    init(_ address: SocketAddress) throws(ControlError) {
      var status = stat()
      try address.check("lstat", lstat(address.path, &status))
      device = status.st_dev
      number = status.st_ino
    }
  }
}

extension SocketAddress {
  fileprivate func check(_ call: String, _ result: Int32) throws(ControlError) {
    if result != 0 { throw error(call, Glibc.errno) }
  }
}
