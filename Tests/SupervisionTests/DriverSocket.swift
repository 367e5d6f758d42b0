import Glibc
import LinuxKernel
import NBDProtocol
import Testing

/// Speaks as the kernel does, one request after the other; calls block, no longer than 20 s.
struct DriverSocket {
  private let socket: OpenFile

  init(_ socket: OpenFile) { self.socket = socket }

  /// The server's error; `nil`: success.
  func ask(_ command: CommandCode, at offset: UInt64 = 0, _ payload: [UInt8] = []) throws -> ErrorCode? {
    try send(command, cookie: offset + 1, at: offset, payload)
    return try reply().error
  }

  /// To be followed by `reply`, in time.
  func send(_ command: CommandCode, cookie: UInt64, at offset: UInt64, _ payload: [UInt8]) throws {
    let request = Request(command, cookie: cookie, offset: offset, length: UInt32(payload.count))
    try send(request.bytes + payload)
  }

  /// One without data.
  func reply() throws -> SimpleReply {
    let header = try receive(16)
    return try SimpleReply(reading: header.span.bytes)
  }

  func read(at offset: UInt64, count: Int) throws -> [UInt8] {
    // Whole blocks alone can be asked for.
    let length = (count + 511) & ~511
    try send(Request(.read, cookie: offset, offset: offset, length: UInt32(length)).bytes)
    let header = try receive(16)
    let reply = try SimpleReply(reading: header.span.bytes)
    try #require(reply.error == nil)
    return Array(try receive(length)[..<count])
  }

  private func send(_ bytes: [UInt8]) throws {
    let count = bytes.withUnsafeBytes { Glibc.send(socket.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
    guard count == bytes.count else { throw InVain(description: "send: \(count), errno \(errno)") }
  }

  private func receive(_ count: Int) throws -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      var ready = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
      guard poll(&ready, 1, 20_000) == 1 else { throw InVain(description: "no reply of \(count) bytes") }
      var piece = [UInt8](repeating: 0, count: count - bytes.count)
      let arrived = recv(socket.number, &piece, piece.count, 0)
      guard arrived > 0 else { throw InVain(description: "recv: \(arrived), errno \(errno)") }
      bytes += piece[..<arrived]
    }
    return bytes
  }
}
