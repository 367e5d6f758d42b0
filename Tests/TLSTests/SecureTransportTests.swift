import CGnuTLS
import CertificateLab
import Glibc
import LinuxKernel
import Relay
import Testing

@testable import TLS

@Suite("A relay's link under TLS", .requiresCertificates)
struct SecureTransportTests {
  /// A transport, and the server at its other end.
  private func connected() throws -> (SecureTransport, TestServer, OpenFile) {
    var pair: [Int32] = [0, 0]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    try #require(socketpair(AF_UNIX, type, 0, &pair) == 0)
    let ours = OpenFile(FileDescriptor(owning: pair[0]))
    let theirs = OpenFile(FileDescriptor(owning: pair[1]))
    let client = try makeClient(socket: ours.number)
    let server = try makeServer(socket: theirs.number)
    while try client.handshake() != .done { _ = try server.session.handshake() }
    while try server.session.handshake() != .done {}
    return (SecureTransport(ours, client), server, theirs)
  }

  private func receive(_ transport: SecureTransport) -> ([UInt8], Transfer) {
    var bytes = [UInt8](repeating: 0, count: 4096)
    let result = bytes.withUnsafeMutableBytes { transport.receive(into: $0) }
    guard case .moved(let count) = result else { return ([], result) }
    return (Array(bytes[..<count]), result)
  }

  private func send(_ bytes: [UInt8], _ transport: SecureTransport) -> Transfer {
    var bytes = bytes
    var output = Gather(capacity: 1)
    defer { output.free() }
    return bytes.withUnsafeMutableBytes { raw in
      if let base = raw.baseAddress { output.append(base, raw.count) }
      return transport.send(output)
    }
  }

  @Test("late answers are taken after it has finished sending, and the server's end is the end")
  func lateAnswers() throws {
    let (transport, server, socket) = try connected()
    #expect(send([1], transport) == .moved(1))
    transport.finishSending()
    for answer: UInt8 in 2...3 {
      _ = try server.session.sendBytes([answer])
      let (bytes, _) = receive(transport)
      #expect(bytes == [answer])
    }
    #expect(receive(transport).1 == .wouldBlock)
    #expect(try server.session.receiveBytes() == [1])
    #expect(try server.session.receiveBytes() == nil)
    Socket.shutDown(socket.number)
    #expect(receive(transport).1 == .ended(0))
  }

  @Test("what a server that hangs has not taken is dropped with the goodbye, and waits for no room")
  func stuck() throws {
    let (transport, server, socket) = try connected()
    defer { withExtendedLifetime(socket) {} }
    let piece = [UInt8](repeating: 7, count: 100_000)
    while case .moved = send(piece, transport) {}
    #expect(transport.wantsToWrite)
    transport.finishSending()
    #expect(!transport.wantsToWrite)
    _ = try server.session.sendBytes([1, 2])
    #expect(receive(transport).0 == [1, 2])
    #expect(receive(transport).1 == .wouldBlock)
  }
}
