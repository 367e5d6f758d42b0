import Glibc
package import LinuxKernel

/// A nonblocking stream socket with straight-line reads and writes of exact counts.
///
/// It reads no byte ahead, so none meant for TLS or the kernel is ever taken. Concurrency model: as its scope's.
package final class ByteStream {
  package enum Failure: Error, Equatable, Sendable {
    /// End of file; `partial`: in the middle of what was asked for.
    case closed(partial: Bool)
    case ended(AttemptScope.End)
    case system(SystemCallError)
  }

  /// The largest piece that is read before more is allocated.
  private static let pieceSize = 64 << 10

  private let socket: OpenFile
  private let scope: AttemptScope

  package init(_ socket: OpenFile, scope: AttemptScope) {
    self.socket = socket
    self.scope = scope
  }

  package nonisolated(nonsending) func read(exactly count: Int) async throws(Failure) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      // Allocated as it arrives: a length that a server claims costs nothing until the bytes are there.
      var piece = [UInt8](repeating: 0, count: min(count - bytes.count, ByteStream.pieceSize))
      let received = recv(socket.number, &piece, piece.count, 0)
      if received > 0 {
        bytes.append(contentsOf: piece[..<received])
      } else if received == 0 {
        throw .closed(partial: !bytes.isEmpty)
      } else {
        try await handle(errno, of: "recv", waitingUntil: .readable)
      }
    }
    return bytes
  }

  package nonisolated(nonsending) func write(_ bytes: [UInt8]) async throws(Failure) {
    var rest = bytes[...]
    while !rest.isEmpty {
      let sent = send(rest)
      if sent >= 0 { rest = rest.dropFirst(sent) } else { try await handle(errno, of: "send", waitingUntil: .writable) }
    }
  }

  /// Sends what fits at once and forgets the rest, for a farewell that nothing depends on.
  package func writeIfPossible(_ bytes: [UInt8]) {
    if !bytes.isEmpty { _ = send(bytes[...]) }
  }

  private func send(_ bytes: ArraySlice<UInt8>) -> Int {
    bytes.withUnsafeBytes { Glibc.send(socket.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
  }

  private nonisolated(nonsending) func handle(
    _ code: Int32, of call: String, waitingUntil readiness: Readiness
  ) async throws(Failure) {
    switch code {
    case EINTR: return
    case EAGAIN:
      do { try await scope.waitUntil(readiness, socket.number) } catch { throw .ended(error) }
    default: throw .system(SystemCallError(call, code))
    }
  }
}
