import Glibc
import LinuxKernel
import NBDProtocol

/// A client of one connection in transmission, with blocking calls that end within half a minute.
final class Client {
  struct Reply: Equatable {
    var error: ErrorCode?
    var cookie: UInt64
    var data: [UInt8] = []
  }

  private let socket: OpenFile
  private var lastCookie: UInt64 = 0

  init(_ socket: OpenFile) {
    self.socket = socket
    _ = fcntl(socket.number, F_SETFL, 0)
    var patience = timeval(tv_sec: 30, tv_usec: 0)
    _ = setsockopt(socket.number, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
  }

  /// Sends a request and does not wait; its cookie.
  @discardableResult
  func begin(
    _ command: CommandCode, flags: CommandFlags = [], at offset: UInt64 = 0, length: Int = 0, data: [UInt8] = []
  ) -> UInt64 {
    lastCookie += 1
    let length = UInt32(data.isEmpty ? length : data.count)
    send(Request(command, flags: flags, cookie: lastCookie, offset: offset, length: length).bytes + data)
    return lastCookie
  }

  func write(_ byte: UInt8, at offset: UInt64, count: Int = 512, flags: CommandFlags = []) -> ErrorCode? {
    begin(.write, flags: flags, at: offset, data: [UInt8](repeating: byte, count: count))
    return reply()?.error
  }

  func flush() -> ErrorCode? {
    begin(.flush)
    return reply()?.error
  }

  func read(at offset: UInt64, count: Int = 512) -> [UInt8]? {
    begin(.read, at: offset, length: count)
    return reply(dataCount: count)?.data
  }

  /// The next reply, with as much data as its request was for; `nil` when the server has closed.
  func reply(dataCount: Int = 0) -> Reply? {
    let header = receive(SimpleReply.byteCount)
    guard let reply = try? SimpleReply(reading: header.span.bytes) else { return nil }
    guard reply.error == nil else { return Reply(error: reply.error, cookie: reply.cookie) }
    return Reply(cookie: reply.cookie, data: receive(dataCount))
  }

  func send(_ bytes: [UInt8]) {
    _ = Glibc.send(socket.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
  }

  /// As many bytes, or fewer where the server closes first.
  func receive(_ count: Int) -> [UInt8] {
    // recv(2) of nothing waits for something.
    guard count > 0 else { return [] }
    var bytes = [UInt8](repeating: 0, count: count)
    let received = recv(socket.number, &bytes, count, Int32(MSG_WAITALL))
    return Array(bytes.prefix(max(received, 0)))
  }

  func halfClose() { _ = shutdown(socket.number, Int32(SHUT_WR)) }

  /// The server has closed, and sent nothing before.
  var isClosed: Bool { receive(1).isEmpty }
}
