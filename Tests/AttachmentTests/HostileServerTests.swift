import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("servers that misbehave")
struct HostileServerTests {
  private static let greeting = Array("NBDMAGICIHAVEOPT".utf8) + [0, 3]

  /// Fails to make a link with a server that does this with its one client; the failure.
  private func failure(
    timeout: Duration = .seconds(30), _ serve: @escaping @Sendable (Peer) -> Void
  ) async throws -> Failure {
    let listener = try Listener(onTCP: "127.0.0.1")
    try listener.serveOnce(serve)
    return try await AttachmentTests.failure { () throws(Failure) in
      try await Client().link(listener.uri(), timeout: timeout)
    }
  }

  @Test("one that accepts and says nothing meets the deadline")
  func silent() async throws {
    // A Unix socket is connected at once, so that the deadline can only pass after that.
    let directory = try TemporaryDirectory()
    let listener = try Listener(onUnix: "\(directory.path)/socket")
    try listener.serveOnce { _ = $0.receiveAll() }
    let problem = try await AttachmentTests.failure { () throws(Failure) in
      try await Client().link(listener.uri(), timeout: .milliseconds(200))
    }
    #expect(problem.phase == .negotiating)
    #expect(problem.errnoCode == ETIMEDOUT)
    #expect(problem.advice == .retry)
    #expect(problem.message.contains("no answer within 0.2 s"))
  }

  @Test("one that never accepts meets the deadline too")
  func neverAccepts() async throws {
    let listener = try Listener(onTCP: "127.0.0.1")
    let problem = try await AttachmentTests.failure { () throws(Failure) in
      try await Client().link(listener.uri(), timeout: .milliseconds(200))
    }
    #expect(problem.errnoCode == ETIMEDOUT)
  }

  @Test("one that sends a byte now and then does not outlast the deadline")
  func trickle() async throws {
    let problem = try await failure(timeout: .milliseconds(300)) { peer in
      for byte in Self.greeting {
        peer.send([byte])
        usleep(100_000)
      }
    }
    #expect(problem.errnoCode == ETIMEDOUT)
  }

  @Test(
    "one that is slow to open the export meets the deadline, and gets no option it does not expect", .requires(.nbdkit))
  func slowOpen() async throws {
    let server = try await ServerProcess.nbdkit("--filter=delay", "memory", "1M", "delay-open=5")
    let problem = try await AttachmentTests.failure { () throws(Failure) in
      try await Client().link(server.uri(), timeout: .milliseconds(300))
    }
    #expect(problem.phase == .negotiating)
    #expect(problem.errnoCode == ETIMEDOUT)
    #expect(!server.log.contains("NBD_OPT_ABORT"))
  }

  @Test("one that is slow within the deadline is waited for", .requires(.nbdkit))
  func slowEnough() async throws {
    let server = try await ServerProcess.nbdkit("--filter=delay", "memory", "1M", "delay-open=200ms")
    #expect(try await Client().link(server.uri()).export.size == 1 << 20)
  }

  @Test("one that closes at once")
  func closes() async throws {
    let problem = try await failure { _ in }
    #expect(problem.phase == .negotiating)
    #expect(problem.message == "the server closed the connection before it had greeted")
    #expect(problem.advice == .retry)
  }

  @Test("one that closes in the middle of its greeting")
  func closesEarly() async throws {
    #expect(try await failure { $0.send(Array("NBDMAGICIH".utf8)) }.message.contains("before it had greeted"))
  }

  @Test("one that closes, with our option unread, instead of answering it")
  func closesInstead() async throws {
    let problem = try await failure { $0.send(Self.greeting) }
    #expect(problem.message.contains("closed the connection instead of answering NBD_OPT_GO"))
    #expect(problem.advice == .retry)
  }

  @Test("one that speaks something else", arguments: ["SSH-2.0-OpenSSH_9.2p1\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"])
  func otherProtocol(text: String) async throws {
    let problem = try await failure { $0.send(Array(text.utf8)) }
    #expect(problem.message.contains("not an NBD server"))
    #expect(problem.message.contains(text.prefix(3)))
    #expect(problem.advice == .giveUp)
  }

  @Test("one that sends garbage: no byte of it is printed as it came")
  func garbage() async throws {
    let problem = try await failure { $0.send((0..<200).map { UInt8($0) }) }
    #expect(problem.message.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7f })
    #expect(problem.advice == .giveUp)
  }

  @Test("one that answers options with garbage")
  func garbageReply() async throws {
    let problem = try await failure { peer in
      peer.send(Self.greeting + [UInt8](repeating: 0xff, count: 100))
      _ = peer.receiveAll()
    }
    #expect(problem.message.contains("broke the protocol"))
    #expect(problem.advice == .giveUp)
  }

  @Test("one that claims a reply of 4 GiB is left, not waited for")
  func hugeReply() async throws {
    let problem = try await failure { peer in
      let header: [UInt8] = [
        0x00, 0x03, 0xe8, 0x89, 0x04, 0x55, 0x65, 0xa9, 0, 0, 0, 7, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff,
      ]
      peer.send(Self.greeting + header)
      _ = peer.receiveAll()
    }
    #expect(problem.advice == .giveUp)
  }

  @Test("a link that was made and not used is closed when it is dropped")
  func dropped() async throws {
    let listener = try Listener(onTCP: "127.0.0.1")
    let ended = Promise<[UInt8]>()
    try listener.serveOnce { peer in
      peer.send(.oldstyle(size: 4096))
      ended.fulfil(peer.receiveAll())
    }
    _ = try await Client().link(listener.uri())
    #expect(try await ended.get("the client has closed") == [])
  }

  @Test("what comes right after the handshake is left in the socket for the kernel")
  func early() async throws {
    let listener = try Listener(onTCP: "127.0.0.1")
    try listener.serveOnce { peer in
      peer.send(.oldstyle(size: 4096) + Array("early".utf8))
      _ = peer.receiveAll()
    }
    let link = try await Client().link(listener.uri())
    var bytes = [UInt8](repeating: 0, count: 16)
    var count = -1
    try await eventually("the early bytes are there") {
      count = recv(link.socket.number, &bytes, bytes.count, 0)
      return count >= 0
    }
    #expect(bytes.prefix(count) == Array("early".utf8)[...])
  }
}
