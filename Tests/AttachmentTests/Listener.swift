import AttachmentModel
import Glibc
import LinuxKernel
import Synchronization

/// A listening socket of the test's own, for servers that no program would be.
final class Listener: Sendable {
  let address: ServerAddress
  private let socket: FileDescriptor

  /// On a free port.
  init(onTCP host: String, backlog: Int32 = 64) throws {
    let isIPv6 = host.contains(":")
    socket = try Self.makeSocket(isIPv6 ? AF_INET6 : AF_INET)
    var port: UInt16 = 0
    if isIPv6 {
      var address = sockaddr_in6()
      address.sin6_family = sa_family_t(AF_INET6)
      inet_pton(AF_INET6, host, &address.sin6_addr)
      port = UInt16(bigEndian: try Self.listen(socket.number, &address, backlog).sin6_port)
    } else {
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      inet_pton(AF_INET, host, &address.sin_addr)
      port = UInt16(bigEndian: try Self.listen(socket.number, &address, backlog).sin_port)
    }
    address = .tcp(host: host, port: port)
  }

  init(onUnix path: String, isAbstract: Bool = false, backlog: Int32 = 64) throws {
    let unix = try SocketAddress.unix(path: path, isAbstract: isAbstract)
    socket = try Self.makeSocket(AF_UNIX)
    let number = socket.number
    let result = unix.bytes.withUnsafeBytes { bytes in
      bind(number, bytes.bindMemory(to: sockaddr.self).baseAddress, socklen_t(bytes.count))
    }
    guard result == 0, Glibc.listen(number, backlog) == 0 else { throw SystemCallError("bind \(path)", errno) }
    address = .unix(path: path, isAbstract: isAbstract)
  }

  var port: UInt16 {
    if case .tcp(_, let port) = address { port } else { 0 }
  }

  func uri(_ export: String = "") -> ServerURI { ServerURI(address: address, exportName: export) }

  /// Accepts one connection, on a thread of its own, and gives it to `serve`, which closes it by dropping it.
  func serveOnce(_ serve: @escaping @Sendable (Peer) -> Void) throws {
    let copy = try FileDescriptor.duplicating(socket.number).release()
    try BlockingThread.start("listener") {
      let number = accept(copy, nil, nil)
      close(copy)
      if number >= 0 { serve(Peer(FileDescriptor(owning: number))) }
    }
  }

  private static func makeSocket(_ family: Int32) throws -> FileDescriptor {
    let number = Glibc.socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard number >= 0 else { throw SystemCallError("socket", errno) }
    return FileDescriptor(owning: number)
  }

  /// Binds and listens; the address that it got.
  private static func listen<Address>(_ number: Int32, _ address: inout Address, _ backlog: Int32) throws -> Address {
    var length = socklen_t(MemoryLayout<Address>.size)
    let result = withUnsafeMutableBytes(of: &address) { bytes -> Int32 in
      let pointer = bytes.bindMemory(to: sockaddr.self).baseAddress
      guard bind(number, pointer, length) == 0, Glibc.listen(number, backlog) == 0 else { return -1 }
      return getsockname(number, pointer, &length)
    }
    guard result == 0 else { throw SystemCallError("bind", errno) }
    return address
  }
}

/// One accepted connection, read and written by blocking calls.
final class Peer: Sendable {
  private let socket: FileDescriptor

  init(_ socket: consuming FileDescriptor) { self.socket = socket }

  var number: Int32 { socket.number }

  /// Sends nothing more; what comes can still be received.
  func endSending() { shutdown(socket.number, Int32(SHUT_WR)) }

  func send(_ bytes: [UInt8]) {
    _ = Glibc.send(socket.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
  }

  /// All that comes until the client closes.
  func receiveAll() -> [UInt8] {
    var all: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = recv(socket.number, &chunk, chunk.count, 0)
      guard count > 0 else { return all }
      all += chunk[..<count]
    }
  }

  /// As many bytes, or fewer where the client closes first.
  func receive(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let received = recv(socket.number, &bytes, count, Int32(MSG_WAITALL))
    return Array(bytes.prefix(max(received, 0)))
  }
}

/// A value that arrives later, once. Shared by who brings it and who waits, under its mutex.
final class Promise<Value: Sendable>: Sendable {
  private let value = Mutex<Value?>(nil)

  func fulfil(_ value: Value) { self.value.withLock { $0 = value } }

  func get(_ what: String) async throws -> Value {
    var found: Value?
    try await eventually(what) {
      found = value.withLock { $0 }
      return found != nil
    }
    guard let found else { throw ServerProcess.Unready(description: what) }
    return found
  }
}
