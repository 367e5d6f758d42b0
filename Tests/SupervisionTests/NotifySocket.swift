import Dispatch
import Foundation
import Glibc
import LinuxKernel
import Synchronization

/// A service manager's end of a notification socket, which keeps all that it is told.
///
/// Concurrency model: `received` is shared by the queue, which takes what comes so that the sender never has to wait,
/// and the test, under its mutex.
final class NotifySocket: Sendable {
  let path: String
  private let received: Received
  // Safe because it is only cancelled, which any thread may do.
  private nonisolated(unsafe) let source: any DispatchSourceRead

  init(_ path: String) throws {
    self.path = path
    let number = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    let address = try SocketAddress.unix(path: path, isAbstract: false)
    let result = address.bytes.withUnsafeBytes { bytes in
      bind(number, bytes.bindMemory(to: sockaddr.self).baseAddress, socklen_t(bytes.count))
    }
    guard result == 0 else { throw POSIXError(.init(rawValue: errno) ?? .EIO) }
    let received = Received(number)
    source = DispatchSource.makeReadSource(fileDescriptor: number, queue: DispatchQueue(label: "notify"))
    source.setEventHandler { _ = received.messages }
    source.setCancelHandler { close(number) }
    source.activate()
    self.received = received
  }

  deinit { source.cancel() }

  /// Datagrams in the order in which they came: all that were sent before this call.
  var messages: [String] { received.messages }

  private final class Received: Sendable {
    private let number: Int32
    private let all = Mutex<[String]>([])

    init(_ number: Int32) { self.number = number }

    var messages: [String] {
      all.withLock { all in
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
          let count = recv(number, &buffer, buffer.count, 0)
          guard count >= 0 else { return all }
          all.append(String(decoding: buffer.prefix(count), as: UTF8.self))
        }
      }
    }
  }

  /// The lines of all datagrams, without those that only tell how things are.
  var events: [String] {
    messages.flatMap { $0.split(separator: "\n").map(String.init) }
      .filter { line in
        !["STATUS=", "WATCHDOG=1", "EXTEND_TIMEOUT_USEC=", "BARRIER=1"].contains { line.hasPrefix($0) }
      }
      .map { $0.hasPrefix("MONOTONIC_USEC=") ? "MONOTONIC_USEC" : $0 }
  }

  /// The sentence for `systemctl status`, as last told.
  var status: String? {
    messages.flatMap { $0.split(separator: "\n") }.last { $0.hasPrefix("STATUS=") }
      .map { String($0.dropFirst("STATUS=".count)) }
  }

  func wait(for events: [String]) async throws {
    try await eventually("the manager is told \(events)", else: "\(messages)") { self.events == events }
  }

  func wait(forStatus what: String, _ condition: (String) -> Bool) async throws {
    try await eventually("the status says \(what)", else: "\(messages)") { self.status.map(condition) ?? false }
  }
}
