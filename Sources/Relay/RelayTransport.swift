package import RelayModel

/// What a transport answers to one attempt to move bytes, which never blocks.
package enum Transfer: Equatable, Sendable {
  /// More than 0.
  case moved(Int)
  /// Try again when poll(2) says so.
  case wouldBlock
  /// The kernel has no memory for it, which poll(2) does not see: try again a little later.
  case noMemory
  /// No byte will come or go any more. 0: the peer has closed it in an orderly way; else an errno.
  case ended(Int32)
}

/// A connected and negotiated stream to a server: bytes in, bytes out, never blocking.
///
/// Concurrency model: made anywhere, then given to a relay, whose thread alone calls it. `Sendable` for that one passage.
package protocol RelayTransport: AnyObject, Sendable {
  /// The socket that poll(2) waits on. Valid until the transport is released, which closes it.
  var descriptor: Int32 { get }

  /// Up to `buffer.count` bytes (at least 1) into the beginning of `buffer`.
  func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer

  /// Takes bytes from the front of `output` (at most 1024 parts); less than all of them when no more fits. What it
  /// has answered as moved is the transport's to deliver. After `wouldBlock` and `noMemory` the same bytes are offered again.
  func send(_ output: Gather) -> Transfer

  /// Whether the bytes on the socket are the protocol's own, so that they may be taken from it past `receive`.
  var isPlain: Bool { get }

  /// Whether `receive` has bytes that poll(2) does not see: decrypted, or read ahead.
  var hasBufferedInput: Bool { get }

  /// Whether bytes that were taken wait for the socket to be writable, see `flushOutput`.
  var wantsToWrite: Bool { get }

  /// Called when the socket is writable and `wantsToWrite`. `moved` with any number when nothing is left.
  func flushOutput() -> Transfer

  /// What is to be said of an end that is no system call's: the session's, where there is one.
  var reason: String? { get }

  /// Gives back memory that has not been needed since the last call, once a second. Whether there is more to give back.
  func trimMemory() -> Bool

  /// No byte is sent any more, those of the peer still come: shutdown(2) with SHUT_WR, TLS with its goodbye before it.
  func finishSending()
}

extension RelayTransport {
  package var isPlain: Bool { false }
  package var reason: String? { nil }
  package func trimMemory() -> Bool { false }
}

/// A link as the relay takes it: a stream, and what its server said of itself.
package struct RelayLink: Sendable {
  package let transport: any RelayTransport
  package let server: ServerLimits

  package init(_ transport: any RelayTransport, _ server: ServerLimits) {
    self.transport = transport
    self.server = server
  }
}
