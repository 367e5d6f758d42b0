import Glibc
package import LinuxKernel
package import TLS

/// A nonblocking stream socket with straight-line reads and writes of exact counts, in clear or under TLS.
///
/// In clear it reads no byte ahead, so none meant for TLS or the kernel is ever taken. Concurrency model: as its scope's.
package final class ByteStream {
  package enum Failure: Error, Equatable, Sendable {
    /// End of file; `partial`: in the middle of what was asked for.
    case closed(partial: Bool)
    case ended(AttemptScope.End)
    case system(SystemCallError)
    case tls(TLSError)
  }

  /// How often what is there may hold no data, in all: a few tickets are usual.
  private static let mostTurnsWithoutData = 1000
  /// The largest piece that is read before more is allocated.
  private static let pieceSize = 64 << 10

  private let socket: OpenFile
  private let scope: AttemptScope
  package private(set) var tls: TLSSession?
  private var turnsWithoutData = 0

  package init(_ socket: OpenFile, tls: TLSSession? = nil, scope: AttemptScope) {
    self.socket = socket
    self.tls = tls
    self.scope = scope
  }

  package nonisolated(nonsending) func read(exactly count: Int) async throws(Failure) -> [UInt8] {
    if let tls { return try await read(exactly: count, under: tls) }
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
    if let tls { return try await write(bytes, under: tls) }
    var rest = bytes[...]
    while !rest.isEmpty {
      let sent = send(rest)
      if sent >= 0 { rest = rest.dropFirst(sent) } else { try await handle(errno, of: "send", waitingUntil: .writable) }
    }
  }

  /// Sends what fits at once and forgets the rest, for a farewell that nothing depends on.
  package func writeIfPossible(_ bytes: [UInt8]) {
    guard !bytes.isEmpty else { return }
    if let tls {
      _ = bytes.withUnsafeBytes { try? tls.send($0) }
    } else {
      _ = send(bytes[...])
    }
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

  // MARK: TLS

  /// A byte is there to be read, before anybody has asked for one.
  package var hasUnreadInput: Bool {
    var byte: UInt8 = 0
    return recv(socket.number, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT)) > 0
  }

  /// Makes the handshake of `session`, which is over this stream's socket; from then on everything goes through it.
  package nonisolated(nonsending) func secure(by session: TLSSession) async throws(Failure) {
    while true {
      let step: TLSSession.Step
      do { step = try session.handshake() } catch { throw .tls(error) }
      switch step {
      case .done:
        tls = session
        return
      case .wantsToRead: try await wait(.readable)
      case .wantsToWrite: try await wait(.writable)
      }
    }
  }

  /// Ends TLS as it should be (close_notify), as far as that can be sent at once.
  package func closeTLS() { tls?.close() }

  private nonisolated(nonsending) func read(
    exactly count: Int, under tls: TLSSession
  ) async throws(Failure) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      var piece = [UInt8](repeating: 0, count: min(count - bytes.count, ByteStream.pieceSize))
      switch try transfer({ () throws(TLSError) in try tls.receive(into: &piece) }) {
      case .count(let received): bytes.append(contentsOf: piece[..<received])
      case .end: throw .closed(partial: !bytes.isEmpty)
      case .wouldBlock:
        // Listens to less than what is there at once, where that is not data.
        if tls.hasBufferedInput { try await turnWithoutData() } else { try await wait(.readable) }
      }
    }
    return bytes
  }

  private nonisolated(nonsending) func write(_ bytes: [UInt8], under tls: TLSSession) async throws(Failure) {
    var rest = bytes[...]
    while !rest.isEmpty || tls.wantsToWrite {
      switch try transfer({ () throws(TLSError) in try tls.send(rest) }) {
      case .count(let sent): rest = rest.dropFirst(sent)
      case .end: throw .closed(partial: false)
      case .wouldBlock: break
      }
      let isEmpty: Bool
      do { isEmpty = try tls.flush() } catch { throw .tls(error) }
      if !isEmpty { try await wait(.writable) }
    }
  }

  private func transfer(_ body: () throws(TLSError) -> TLSSession.Transfer) throws(Failure) -> TLSSession.Transfer {
    do { return try body() } catch { throw .tls(error) }
  }

  private nonisolated(nonsending) func wait(_ readiness: Readiness) async throws(Failure) {
    do { try await scope.waitUntil(readiness, socket.number) } catch { throw .ended(error) }
  }

  /// A server that has more to say than anybody can listen to must not keep the queue from what ends its time.
  private nonisolated(nonsending) func turnWithoutData() async throws(Failure) {
    turnsWithoutData += 1
    guard turnsWithoutData <= ByteStream.mostTurnsWithoutData else { throw .tls(.noData) }
    // The rest of this task goes to the end of the queue.
    await Task.yield()
    do { try scope.check() } catch { throw .ended(error) }
  }
}

extension TLSSession {
  fileprivate func receive(into bytes: inout [UInt8]) throws(TLSError) -> Transfer {
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(TLSError) in try receive(into: buffer) }
    }
    return try result.get()
  }

  fileprivate func send(_ bytes: ArraySlice<UInt8>) throws(TLSError) -> Transfer {
    let result = bytes.withUnsafeBytes { buffer in Result { () throws(TLSError) in try send(buffer) } }
    return try result.get()
  }
}
