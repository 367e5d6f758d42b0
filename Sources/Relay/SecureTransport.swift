import CLinuxNBD
import Glibc
package import LinuxKernel
package import TLS

/// A socket under TLS, its records made in this process.
///
/// The parts of a message are gathered into records of the largest size: a request alone would cost a record each.
package final class SecureTransport: RelayTransport {
  /// The largest piece that is one record (RFC 8446, section 5.1), in bytes.
  private static let recordSize = 16 << 10

  private let file: OpenFile
  private let session: TLSSession
  package let descriptor: Int32
  /// The relay's thread alone.
  private nonisolated(unsafe) let staging = UnsafeMutableRawBufferPointer.allocate(
    byteCount: recordSize, alignment: 4096)
  private nonisolated(unsafe) var failure: TLSError?

  /// `session` must be established over `socket`, with no byte of the handshake of NBD left in either.
  package init(_ socket: OpenFile, _ session: TLSSession) {
    file = socket
    self.session = session
    descriptor = socket.number
  }

  deinit { staging.deallocate() }

  package var reason: String? { failure?.message }
  package var hasBufferedInput: Bool { session.hasBufferedInput }
  package var wantsToWrite: Bool { session.wantsToWrite }

  package func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
    do { return transfer(try session.receive(into: buffer)) } catch { return ended(error) }
  }

  package func send(_ output: Gather) -> Transfer {
    var moved = 0
    do {
      var filled = 0
      for part in output.rest {
        var rest = UnsafeRawBufferPointer(start: part.iov_base, count: part.iov_len)
        while !rest.isEmpty {
          if filled == 0, rest.count >= Self.recordSize {
            let sent = try record(UnsafeRawBufferPointer(rebasing: rest[..<Self.recordSize]))
            moved += sent
            guard sent == Self.recordSize else { return try close(moved) }
            rest = UnsafeRawBufferPointer(rebasing: rest[sent...])
          } else {
            let count = min(rest.count, Self.recordSize - filled)
            UnsafeMutableRawBufferPointer(rebasing: staging[filled..<filled + count]).copyMemory(
              from: UnsafeRawBufferPointer(rebasing: rest[..<count]))
            filled += count
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            if filled == Self.recordSize {
              let sent = try record(UnsafeRawBufferPointer(staging))
              moved += sent
              guard sent == filled else { return try close(moved) }
              filled = 0
            }
          }
        }
      }
      if filled > 0 { moved += try record(UnsafeRawBufferPointer(rebasing: staging[..<filled])) }
      return try close(moved)
    } catch {
      return ended(error)
    }
  }

  package func flushOutput() -> Transfer {
    do { return try session.flush() ? .moved(0) : blocked } catch { return ended(error) }
  }

  package func trimMemory() -> Bool { session.trimMemory() }

  package func finishSending() {
    session.close()
    Socket.finishSending(descriptor)
  }

  /// How many bytes were taken, none when there is no room.
  private func record(_ bytes: UnsafeRawBufferPointer) throws(TLSError) -> Int {
    switch try session.send(bytes, more: true) {
    case .count(let count): count
    case .wouldBlock: 0
    case .end: throw .system("send", EPIPE)
    }
  }

  /// What was taken is on its way, as far as the socket takes it.
  private func close(_ moved: Int) throws(TLSError) -> Transfer {
    try session.flush()
    return moved > 0 ? .moved(moved) : blocked
  }

  private var blocked: Transfer { session.isShortOfMemory ? .noMemory : .wouldBlock }

  private func transfer(_ result: TLSSession.Transfer) -> Transfer {
    switch result {
    case .count(let count): .moved(count)
    case .wouldBlock: blocked
    case .end: .ended(0)
    }
  }

  private func ended(_ error: TLSError) -> Transfer {
    if case .system(_, let code) = error { return .ended(code) }
    failure = error
    return .ended(EPROTO)
  }
}
