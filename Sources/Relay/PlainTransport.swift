import Glibc
package import LinuxKernel

/// A TCP, Unix or vsock socket without TLS.
package final class PlainTransport: RelayTransport {
  private let file: OpenFile
  package let descriptor: Int32

  /// `socket` must be connected and nonblocking, with no byte of the handshake left in it.
  package init(_ socket: OpenFile) {
    file = socket
    descriptor = socket.number
  }

  package func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
    StreamSocket.receive(descriptor, into: buffer)
  }

  package func send(_ output: Gather) -> Transfer {
    StreamSocket.send(descriptor, output.rest)
  }

  package var isPlain: Bool { true }
  package var hasBufferedInput: Bool { false }
  package var wantsToWrite: Bool { false }
  package func flushOutput() -> Transfer { .moved(0) }
  package func finishSending() { Socket.finishSending(descriptor) }
}
