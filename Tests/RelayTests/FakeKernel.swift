import Glibc
import LinuxKernel
import NBDProtocol

/// The kernel's end of the socketpair, as the driver uses it: requests with cookies out, replies in, calls that block.
///
/// What should come and does not come within 20 s is an error, so that no test hangs.
/// `@unchecked`: a test gives it to one task and does not use it until that task is done.
final class FakeKernel: @unchecked Sendable {
  struct Reply: Equatable {
    var cookie: UInt64
    var error: ErrorCode?
    var data: [UInt8] = []
  }

  enum Failure: Error, Equatable {
    case ended
    case system(Int32)
    case wrongReply(String)
  }

  let socket: OpenFile
  private(set) var outstanding: [UInt64: Request] = [:]
  private var nextCookie: UInt64 = 0x77_0000_0001
  private var received: [UInt8] = []

  init(_ socket: OpenFile) {
    self.socket = socket
    var time = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(socket.number, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(socket.number, SOL_SOCKET, SO_SNDTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
  }

  /// Sends it, and gives its cookie.
  @discardableResult
  func send(
    _ command: CommandCode, flags: CommandFlags = [], at offset: UInt64 = 0, length: Int = 0, _ payload: [UInt8] = []
  ) throws -> UInt64 {
    nextCookie += 1
    let request = Request(
      command, flags: flags, cookie: nextCookie, offset: offset,
      length: UInt32(payload.isEmpty ? length : payload.count))
    outstanding[nextCookie] = request
    try sendBytes(request.bytes + payload)
    return nextCookie
  }

  /// A request whose bytes the caller sends.
  func expect(_ request: Request) { outstanding[request.cookie] = request }

  func sendBytes(_ bytes: [UInt8]) throws {
    var sent = 0
    while sent < bytes.count {
      let count = bytes[sent...].withUnsafeBytes {
        Glibc.send(socket.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw Failure.system(errno) }
      sent += count
    }
  }

  /// The next reply, whatever it answers.
  func receive() throws -> Reply {
    try fill(16)
    let header = try SimpleReply(reading: received.span.bytes)
    guard let request = outstanding.removeValue(forKey: header.cookie) else {
      throw Failure.wrongReply("cookie \(header.cookie)")
    }
    let size = 16 + (request.command == .read && header.error == nil ? Int(request.length) : 0)
    try fill(size)
    defer { received.removeFirst(size) }
    return Reply(cookie: header.cookie, error: header.error, data: Array(received[16..<size]))
  }

  /// The next `count` bytes, whatever they are.
  func take(_ count: Int) throws -> [UInt8] {
    try fill(count)
    defer { received.removeFirst(count) }
    return Array(received[..<count])
  }

  /// The next bytes as a request: for a test that plays the server.
  func takeRequest() throws -> Request {
    let bytes = try take(Request.byteCount)
    return try Request(reading: bytes.span.bytes)
  }

  private func fill(_ count: Int) throws {
    while received.count < count {
      var piece = [UInt8](repeating: 0, count: max(65536, count - received.count))
      let arrived = recv(socket.number, &piece, piece.count, 0)
      guard arrived != 0 else { throw Failure.ended }
      guard arrived > 0 else { throw Failure.system(errno) }
      received.append(contentsOf: piece[..<arrived])
    }
  }

  /// Whether a reply waits to be received.
  var hasReply: Bool {
    var poll = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
    return !received.isEmpty || Glibc.poll(&poll, 1, 0) == 1
  }

  /// Sends one request and gives its answer; none other may be outstanding.
  func ask(
    _ command: CommandCode, flags: CommandFlags = [], at offset: UInt64 = 0, length: Int = 0, _ payload: [UInt8] = []
  ) throws -> Reply {
    let cookie = try send(command, flags: flags, at: offset, length: length, payload)
    let reply = try receive()
    guard reply.cookie == cookie else { throw Failure.wrongReply("cookie \(reply.cookie)") }
    return reply
  }

  /// Returns when the other side has closed; what it still sent is dropped.
  func waitForEnd() throws {
    while true {
      do { _ = try receive() } catch Failure.ended { return } catch Failure.system(ECONNRESET) { return }
    }
  }
}
