import FoundationEssentials
import Glibc

/// Asks a daemon, one call on one connection; blocks, but never beyond its deadline.
package struct ControlClient: Sendable {
  private let path: String
  private let timeout: Duration
  private let replyLimit: Int

  /// `timeout` is for a whole call; `replyLimit`, in bytes, is far more than a thousand attachments need.
  package init(
    path: String = ControlServer.standardPath, timeout: Duration = .seconds(10), replyLimit: Int = 32 << 20
  ) {
    self.path = path
    self.timeout = timeout
    self.replyLimit = replyLimit
  }

  /// Every attachment, or only the one called `name`.
  package func status(of name: String? = nil) throws(ControlError) -> StatusDocument {
    struct Parameters: Encodable {
      var name: String?
    }
    return try call(.status, Parameters(name: name))
  }

  func call<Answer: Decodable>(
    _ method: ControlMethod, _ parameters: some Encodable, patience: Duration? = nil
  ) throws(ControlError) -> Answer {
    guard let message = try? JSONEncoder().encode(Call(method: method.rawValue, parameters: parameters)) else {
      throw .refused(error: "a parameter has no JSON form")
    }
    let reply = try exchange(Array(message) + [0], within: patience ?? timeout)
    let decoder = JSONDecoder()
    if let refusal = try? decoder.decode(Refusal.self, from: Data(reply)) { throw refusal.typed }
    guard let answer = try? decoder.decode(Success<Answer>.self, from: Data(reply)) else { throw .malformedReply }
    return answer.parameters
  }

  /// Sends one message, and returns the one that comes back, without its NUL.
  private func exchange(_ message: [UInt8], within timeout: Duration) throws(ControlError) -> [UInt8] {
    let connection = try ClientConnection(path: path, deadline: .now + timeout)
    defer { connection.close() }
    try connection.send(message)
    var buffer = MessageBuffer(messageLimit: replyLimit)
    while true {
      switch buffer.next() {
      case .message(let reply): return reply
      case .tooLong: throw .replyTooLong
      case .incomplete: buffer.append(try connection.receive())
      }
    }
  }

  private struct Call<Parameters: Encodable>: Encodable {
    var method: String
    var parameters: Parameters
  }

  private struct Success<Answer: Decodable>: Decodable {
    var parameters: Answer
  }

  private struct Refusal: Decodable {
    var error: String
    var parameters: [String: VarlinkValue]?

    var typed: ControlError {
      let parameters = parameters ?? [:]
      if let action = ActionError(varlinkName: error, parameters: parameters) { return .action(action) }
      switch error {
      case "org.varlink.service.PermissionDenied": return .mayNotChange
      // What an older daemon answers is MethodNotFound.
      case "org.varlink.service.MethodNotImplemented", "org.varlink.service.MethodNotFound":
        return .notImplemented(method: parameters["method"]?.string ?? "")
      default: return .refused(error: error)
      }
    }
  }
}

/// A connection to the daemon, on which every wait ends at one deadline.
private struct ClientConnection {
  private let fd: Int32
  private let address: SocketAddress
  private let deadline: ContinuousClock.Instant

  init(path: String, deadline: ContinuousClock.Instant) throws(ControlError) {
    address = try SocketAddress(path: path)
    self.deadline = deadline
    fd = try address.makeSocket()
    do throws(ControlError) {
      try establish()
    } catch {
      Glibc.close(fd)
      throw error
    }
  }

  func close() { Glibc.close(fd) }

  private func establish() throws(ControlError) {
    while true {
      switch address.pass(to: { connect(fd, $0, $1) }) {
      case 0: return
      case EINTR: continue
      // The backlog is full; the kernel does not say when it is not any more.
      case EAGAIN:
        if poll(nil, 0, min(20, milliseconds)) < 0 || milliseconds == 0 { throw ControlError.timedOut }
      case ENOENT, ECONNREFUSED: throw ControlError.notRunning(path: address.path)
      case EACCES, EPERM: throw ControlError.permissionDenied(path: address.path)
      case let code: throw address.error("connect", code)
      }
    }
  }

  func send(_ bytes: [UInt8]) throws(ControlError) {
    var sent = 0
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes { raw in
        let rest = UnsafeRawBufferPointer(rebasing: raw[sent...])
        return Glibc.send(fd, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 { sent += count } else { try wait(for: POLLOUT, after: errno) }
    }
  }

  /// At least one byte.
  func receive() throws(ControlError) -> [UInt8] {
    while true {
      var code: Int32 = 0
      let chunk = [UInt8](unsafeUninitializedCapacity: 64 << 10) { buffer, count in
        let received = read(fd, buffer.baseAddress, buffer.count)
        code = errno
        count = max(0, received)
        if received >= 0 { code = 0 }
      }
      if !chunk.isEmpty { return chunk }
      if code == 0 { throw .closed }
      try wait(for: POLLIN, after: code)
    }
  }

  /// Waits after a call that gave `code`, where waiting helps.
  private func wait(for events: Int32, after code: Int32) throws(ControlError) {
    switch code {
    case EINTR: return
    case EAGAIN: break
    case EPIPE, ECONNRESET: throw .closed
    default: throw address.error("read or write", code)
    }
    var descriptor = pollfd(fd: fd, events: Int16(truncatingIfNeeded: events), revents: 0)
    let left = milliseconds
    if left == 0 { throw .timedOut }
    _ = poll(&descriptor, 1, left)
  }

  /// Until the deadline, for poll(2); rounded up.
  private var milliseconds: Int32 {
    let (seconds, attoseconds) = (deadline - .now).components
    if seconds < 0 || attoseconds < 0 { return 0 }
    return Int32(clamping: min(seconds, 1_000_000) * 1000 + attoseconds / 1_000_000_000_000_000 + 1)
  }
}
