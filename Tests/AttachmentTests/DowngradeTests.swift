import AttachmentModel
import CertificateLab
import Glibc
import LinuxKernel
import NBDProtocol
import Synchronization
import Testing

@testable import Attachment

@Suite("attempts to talk a client out of TLS", .requiresCertificates)
struct DowngradeTests {
  private static let magic = Array("NBDMAGICIHAVEOPT".utf8)
  private static let replyMagic: [UInt8] = [0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9]
  private static let acknowledgement = replyMagic + [0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0]
  /// Client flags, and the whole of NBD_OPT_STARTTLS.
  private static let optionLength = 4 + 16

  /// What a link to a server that does this fails with, and all that the server was sent.
  private func outcome(
    timeout: Duration = .seconds(30), _ serve: @escaping @Sendable (Peer) -> [UInt8]
  ) async throws -> (failure: Failure, sent: [UInt8]) {
    let listener = try Listener(onTCP: "127.0.0.1")
    let sent = Promise<[UInt8]>()
    try listener.serveOnce { peer in
      let first = serve(peer)
      sent.fulfil(first + peer.receiveAll())
    }
    let uri = ServerURI(address: listener.address, exportName: "secret", usesTLS: true)
    let spec = try TLSServerTests.spec()
    let failure = try await AttachmentTests.failure { () throws(Failure) in
      try await Client().link(uri, tls: spec, timeout: timeout)
    }
    return (failure, try await sent.get("the client closes"))
  }

  private func isSilentOfExport(_ sent: [UInt8]) -> Bool {
    !String(decoding: sent, as: UTF8.self).contains("secret")
  }

  @Test("older styles, forged or real, are refused, and nothing is sent")
  func styles() async throws {
    let oldstyle: [UInt8] = Array("NBDMAGIC".utf8) + [0, 0, 0x42, 2, 0x81, 0x86, 0x12, 0x53]
    for greeting in [Self.magic + [0, 0], Self.magic + [0, 2], oldstyle + [UInt8](repeating: 0, count: 136)] {
      let (failure, sent) = try await outcome { peer in
        peer.send(greeting)
        return []
      }
      #expect(failure.message.hasSuffix("which has no TLS"))
      #expect(failure.advice == .giveUp)
      #expect(sent.isEmpty)
    }
  }

  @Test("every refusal of STARTTLS ends it, and nothing but a goodbye follows", arguments: [1, 2, 3, 4, 5, 6, 8, 99])
  func refusals(number: UInt8) async throws {
    let (failure, sent) = try await outcome { peer in
      peer.send(Self.magic + [0, 3])
      let option = peer.receive(Self.optionLength)
      peer.send(Self.replyMagic + [0, 0, 0, 5, 0x80, 0, 0, number, 0, 0, 0, 0])
      return option
    }
    #expect(failure.message.hasPrefix("the server refused TLS"))
    #expect(failure.advice == .giveUp)
    // NBD_OPT_ABORT.
    #expect(sent.count == Self.optionLength + 16 && sent[Self.optionLength + 11] == 2)
    #expect(isSilentOfExport(sent))
  }

  @Test("plaintext that comes with the acknowledgement is never taken for the server's word")
  func injectedWithAcknowledgement() async throws {
    // What NBD_OPT_GO would be answered with.
    let go = Self.replyMagic + [0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0]
    let (failure, sent) = try await outcome { peer in
      peer.send(Self.magic + [0, 3])
      let option = peer.receive(Self.optionLength)
      peer.send(Self.acknowledgement + go)
      return option
    }
    #expect(failure.message == "bytes came in clear after the server had agreed to TLS")
    #expect(failure.advice == .giveUp)
    #expect(sent.count == Self.optionLength)
  }

  @Test("plaintext that comes later is not TLS", arguments: [1, 8, 600])
  func injectedLater(count: Int) async throws {
    let (failure, sent) = try await outcome { peer in
      peer.send(Self.magic + [0, 3])
      let option = peer.receive(Self.optionLength)
      peer.send(Self.acknowledgement)
      let greeting = peer.receive(5)
      peer.send([UInt8](repeating: 0x4e, count: count))
      peer.endSending()
      return option + greeting
    }
    #expect(failure.phase == .negotiating && failure.message.contains("TLS"), "\(failure)")
    #expect(isSilentOfExport(sent))
  }

  @Test("a close, and silence, after the acknowledgement end it, and may be another thing next time")
  func silence() async throws {
    let (closed, _) = try await outcome { peer in
      peer.send(Self.magic + [0, 3])
      let option = peer.receive(Self.optionLength)
      peer.send(Self.acknowledgement)
      peer.endSending()
      return option
    }
    #expect(closed.message == "the server closed the connection during the TLS handshake")
    #expect(closed.advice == .retry)
    let (silent, sent) = try await outcome(timeout: .milliseconds(300)) { peer in
      peer.send(Self.magic + [0, 3])
      let option = peer.receive(Self.optionLength)
      peer.send(Self.acknowledgement)
      return option
    }
    #expect(silent.errnoCode == ETIMEDOUT && silent.advice == .retry)
    #expect(isSilentOfExport(sent))
  }

  // MARK: Between client and server

  /// Connects to `process` over a proxy that changes the first bytes that the server sends.
  private func link(
    to process: ServerProcess, changing change: @escaping @Sendable (inout [UInt8]) -> Void, first count: Int
  ) async throws(Failure) -> (client: Client, link: Link) {
    let client = Client()
    let address: ServerAddress
    let spec: TLSSpec
    do {
      address = try Proxy(to: process.address, changing: change, first: count).address
      spec = try TLSServerTests.spec()
    } catch {
      throw Failure(.connecting, "\(error)", advice: .giveUp)
    }
    let uri = ServerURI(address: address, exportName: "secret", usesTLS: true)
    return (client, try await client.link(uri, tls: spec))
  }

  private func server() async throws -> ServerProcess {
    try await .nbdkit("--tls=on", "--tls-certificates=\(TLSServerTests.folder())", "pattern", "1M")
  }

  @Test("who drops FIXED_NEWSTYLE on the way gets nothing", .requires(.nbdkit))
  func droppedStyle() async throws {
    let process = try await server()
    let failure = try await failure { () throws(Failure) in
      try await link(to: process, changing: { $0[17] &= ~1 }, first: 18).link
    }
    #expect(failure.message == "the server speaks newstyle, which has no TLS")
    #expect(!process.log.contains("secret"))
  }

  @Test("who turns the acknowledgement into a refusal gets nothing", .requires(.nbdkit))
  func forgedRefusal() async throws {
    let process = try await server()
    let failure = try await failure { () throws(Failure) in
      try await link(to: process, changing: { $0[18 + 12] = 0x80 }, first: 18 + 20).link
    }
    #expect(failure.message.hasPrefix("the server refused TLS"))
    #expect(!process.log.contains("secret"))
  }

  @Test("who flips NO_ZEROES on the way changes nothing", .requires(.nbdkit))
  func flippedZeroes() async throws {
    let process = try await server()
    let (client, link) = try await link(to: process, changing: { $0[17] ^= 2 }, first: 18)
    #expect(try await client.read(link, offset: 512, length: 512) == pattern(offset: 512, count: 512))
    await client.disconnect(link)
  }

  @Test("who puts itself in the middle has no certificate for it", .requires(.nbdkit))
  func middle() async throws {
    let folder = try TLSServerTests.folder(CertificateLab.foreignServer.get(), "middle-folder")
    let process = try await ServerProcess.nbdkit("--tls=require", "--tls-certificates=\(folder)", "memory", "1M")
    let spec = try TLSServerTests.spec()
    let failure = try await failure { () throws(Failure) in
      try await Client().link(process.tlsURI("secret"), tls: spec)
    }
    #expect(failure.message.contains("ca-file does not hold"))
    #expect(!process.log.contains("secret"))
  }
}

/// Stands between one client and a server, and changes the first bytes that the server sends, once they are there as a
/// whole.
private final class Proxy: Sendable {
  let address: ServerAddress

  init(
    to server: ServerAddress, changing change: @escaping @Sendable (inout [UInt8]) -> Void, first count: Int
  ) throws {
    guard case .unix(let path, let isAbstract) = server else { throw ServerProcess.Unready(description: "not Unix") }
    let target = try SocketAddress.unix(path: path, isAbstract: isAbstract)
    let listener = try Listener(onTCP: "127.0.0.1")
    address = listener.address
    try listener.serveOnce { client in
      guard let socket = try? Socket.make(for: target),
        (try? Socket.connect(socket.number, to: target)) == .connected
      else { return }
      Self.pump(client.number, socket.number, change, count)
    }
  }

  private static func pump(_ client: Int32, _ server: Int32, _ change: (inout [UInt8]) -> Void, _ count: Int) {
    var head: [UInt8]? = []
    var buffer = [UInt8](repeating: 0, count: 64 << 10)
    while true {
      var sockets = [
        pollfd(fd: client, events: Int16(POLLIN), revents: 0), pollfd(fd: server, events: Int16(POLLIN), revents: 0),
      ]
      guard poll(&sockets, 2, 10_000) > 0 else { return }
      if sockets[0].revents != 0 {
        let received = recv(client, &buffer, buffer.count, 0)
        guard received > 0 else { return }
        send(server, buffer, received, Int32(MSG_NOSIGNAL))
      }
      guard sockets[1].revents != 0 else { continue }
      let received = recv(server, &buffer, buffer.count, 0)
      guard received > 0 else { return }
      var bytes = Array(buffer[..<received])
      if var begun = head {
        // The client answers to each part, so it is passed on as it comes, changed as a part of the whole.
        let offset = begun.count
        begun += bytes
        var whole = begun + [UInt8](repeating: 0, count: max(0, count - begun.count))
        change(&whole)
        bytes = Array(whole[offset..<begun.count])
        head = begun.count < count ? begun : nil
      }
      send(client, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }
  }
}
