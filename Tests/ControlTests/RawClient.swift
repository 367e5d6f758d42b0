import Foundation
import Glibc
import Testing

@testable import Control

/// A client that sends what it likes. Its calls block, so they belong on a thread of their own (`blocking`).
final class RawClient: Sendable {
  private let fd: Int32

  init(_ path: String) throws {
    let address = try SocketAddress(path: path)
    fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let code = address.pass { connect(fd, $0, $1) }
    if code != 0 { throw POSIXError(POSIXErrorCode(rawValue: code) ?? .EIO) }
    // So that a server that never answers is a failed test, not one without an end.
    var patience = timeval(tv_sec: 60, tv_usec: 0)
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(fd) }

  /// Whether all of it was taken.
  @discardableResult
  func send(_ bytes: [UInt8]) -> Bool {
    var sent = 0
    while sent < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(fd, $0.baseAddress?.advanced(by: sent), $0.count - sent, Int32(MSG_NOSIGNAL))
      }
      if count <= 0 { return false }
      sent += count
    }
    return true
  }

  @discardableResult
  func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  func finishSending() { shutdown(fd, Int32(SHUT_WR)) }

  /// The next message without its NUL; `nil`: the connection is at its end.
  func receive() -> String? {
    var message: [UInt8] = []
    var byte: UInt8 = 0
    while read(fd, &byte, 1) == 1 {
      if byte == 0 { return String(decoding: message, as: UTF8.self) }
      message.append(byte)
    }
    return nil
  }

  /// Waits for the server to hang up, reading nothing.
  func awaitHangup() -> Bool {
    var descriptor = pollfd(fd: fd, events: 0, revents: 0)
    return poll(&descriptor, 1, 60_000) == 1
  }

  /// How many bytes are left to read before the end.
  func drain() -> Int {
    var total = 0
    var buffer = [UInt8](repeating: 0, count: 1 << 16)
    while true {
      let count = read(fd, &buffer, buffer.count)
      if count <= 0 { return total }
      total += count
    }
  }
}

/// Runs `body` on a thread of its own: the tests' pool is as small as the machine, and the server's answers need it.
func blocking<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    Thread.detachNewThread { continuation.resume(with: Swift.Result { try body() }) }
  }
}

/// A directory of its own for one test, gone afterwards.
func withDirectory<Result>(_ body: (String) async throws -> Result) async throws -> Result {
  let directory = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
  try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: directory) }
  return try await body(directory)
}

/// A server at work that always tells the same, stopped afterwards.
func withServer(
  limits: ControlLimits = ControlLimits(), actions: ControlActions = ControlActions(),
  serving snapshot: StatusSnapshot = snapshot([attachedReport()]), _ body: (String) async throws -> Void
) async throws {
  let status: @Sendable () async -> StatusSnapshot = { snapshot }
  try await withServer(limits: limits, actions: actions, status: status, body)
}

/// A server at work, stopped afterwards.
func withServer(
  limits: ControlLimits, actions: ControlActions = ControlActions(),
  status: @escaping @Sendable () async -> StatusSnapshot,
  _ body: (String) async throws -> Void
) async throws {
  try await withDirectory { directory in
    let path = directory + "/control"
    let server = ControlServer(path: path, group: nil, limits: limits, actions: actions, status: status)
    try await server.start()
    do {
      try await body(path)
    } catch {
      await server.stop()
      throw error
    }
    await server.stop()
  }
}

let getInfo = #"{"method":"org.varlink.service.GetInfo"}"# + "\0"
let getStatus = #"{"method":"org.nbdattach.Status"}"# + "\0"
