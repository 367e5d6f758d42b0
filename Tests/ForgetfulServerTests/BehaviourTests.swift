import Attachment
import AttachmentModel
import ForgetfulServer
import Foundation
import LinuxKernel
import NBDProtocol
import Testing

@Suite("How a server that forgets behaves", .timeLimit(.minutes(2)))
struct BehaviourTests {
  let server: ForgetfulServer
  let client: Client

  init() throws {
    server = try ForgetfulServer(size: 64 << 10)
    client = Client(try server.connect())
  }

  @Test("a held write lands after its connection has gone, when it is released")
  func lateWrite() async throws {
    server.behave { $0.treat = { $0.connection == 0 ? .hold : .serve } }
    client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 512))
    try await server.wait { $0.held == 1 }
    server.drop(connection: 0)
    let next = Client(try server.connect())
    #expect(next.write(8, at: 0) == nil)
    server.finishHeld()
    #expect(next.read(at: 0) == [UInt8](repeating: 7, count: 512))
  }

  @Test("a crash forgets held writes")
  func heldAndCrashed() async throws {
    server.behave { $0.treat = { _ in .hold } }
    client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 512))
    try await server.wait { $0.held == 1 }
    server.crash(survival: 1)
    server.finishHeld()
    #expect(server.durable[0] == 0)
  }

  @Test("a client that closes its direction gets its held replies before the close")
  func finishesBeforeClose() async throws {
    server.behave { $0.treat = { _ in .hold } }
    let cookie = client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 512))
    try await server.wait { $0.held == 1 }
    client.halfClose()
    #expect(client.reply() == Client.Reply(cookie: cookie))
    #expect(client.isClosed)
    #expect(server.visible[0] == 7)
  }

  @Test("a server that waits keeps a half-closed connection until the held replies are released")
  func waitsBeforeClose() async throws {
    server.behave {
      $0.treat = { _ in .hold }
      $0.halfClose = .waits
    }
    let cookie = client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 512))
    client.halfClose()
    try await server.wait { $0.halfClosed == 1 && $0.held == 1 }
    #expect(server.facts.closed == 0)
    server.finishHeld()
    #expect(client.reply() == Client.Reply(cookie: cookie))
    #expect(client.isClosed)
    #expect(server.facts.closed == 1)
  }

  @Test("a server that closes first still has the write to come")
  func closesFirst() async throws {
    server.behave {
      $0.treat = { _ in .hold }
      $0.halfClose = .closesFirst
    }
    client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 512))
    client.halfClose()
    #expect(client.isClosed)
    #expect(server.visible[0] == 0)
    server.finishHeld()
    #expect(server.visible[0] == 7)
  }

  @Test("a reply held back is for what was carried out at once")
  func answersLate() async throws {
    server.behave { $0.treat = { $0.request.command == .write ? .answerLate : .serve } }
    let write = client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 512))
    try await server.wait { $0.held == 1 }
    #expect(client.read(at: 0) == [UInt8](repeating: 7, count: 512))
    server.finishHeld()
    #expect(client.reply() == Client.Reply(cookie: write))
  }

  @Test("DISC ends the connection after the replies")
  func disconnects() async throws {
    let read = client.begin(.read, at: 0, length: 4)
    client.begin(.disconnect)
    #expect(client.reply(dataCount: 4) == Client.Reply(cookie: read, data: [0, 0, 0, 0]))
    #expect(client.isClosed)
    #expect(server.facts.disconnected == 1)
  }

  @Test("it refuses what it is told to, and carries out nothing of it")
  func refuses() {
    server.behave { $0.refuse(.write, .trim, in: 1024..<2048, with: .noSpace) }
    #expect(client.write(7, at: 512, count: 1024) == .noSpace)
    #expect(client.write(7, at: 512) == nil)
    #expect(client.read(at: 1024) == [UInt8](repeating: 0, count: 512))
  }

  @Test("every request of a server that shuts down is answered with ESHUTDOWN")
  func shutsDown() {
    server.behave { $0.refuseEverything() }
    for command in [CommandCode.write, .read, .flush, .trim] {
      let data = command == .write ? [UInt8](repeating: 7, count: 512) : []
      let cookie = client.begin(command, at: 0, length: command == .flush ? 0 : 512, data: data)
      #expect(client.reply() == Client.Reply(error: .shutdown, cookie: cookie))
    }
    #expect(server.visible[0] == 0)
  }

  @Test("a reply is cut where it is told", arguments: [0, 15, 16, 100])
  func cuts(count: Int) {
    server.behave { $0.treat = { _ in .cut(after: count) } }
    client.begin(.read, at: 0, length: 512)
    #expect(client.receive(1024).count == count)
  }

  @Test("a reply has the wrong magic or cookie where it is told", arguments: [Treatment.wrongMagic, .wrongCookie])
  func garbles(treatment: Treatment) {
    server.behave { $0.treat = { _ in treatment } }
    let cookie = client.begin(.flush)
    let right = SimpleReply(cookie: cookie).bytes
    let got = client.receive(16)
    #expect(got != right)
    #expect(got[4..<8] == right[4..<8])
    #expect((got[..<4] == right[..<4]) == (treatment == .wrongCookie))
  }

  @Test("replies come in an order of chance, each once")
  func reorders() {
    server.behave { $0.reorders = true }
    let requests = (0..<64).flatMap { _ in Request(.read, cookie: 0, offset: 0, length: 1).bytes }
    var cookies: [UInt64] = []
    // In one piece, so that they are there together.
    var bytes = requests
    for index in 0..<64 { bytes[index * 28 + 15] = UInt8(index) }
    client.send(bytes)
    for _ in 0..<64 { if let reply = client.reply(dataCount: 1) { cookies.append(reply.cookie) } }
    #expect(cookies != cookies.sorted())
    #expect(cookies.sorted() == Array(0..<64))
  }

  @Test("it names what a client may not do")
  func violations() async throws {
    let sizes = BlockSizes(minimum: 512, preferred: 4096, maximumPayload: 4096)
    server.behave {
      $0.offer.blockSizes = sizes
      $0.offer.flags.remove(.sendTrim)
      $0.treat = { _ in .hold }
    }
    let client = Client(try server.connect())
    client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 1024))
    client.begin(.write, at: 512, data: [UInt8](repeating: 7, count: 512))
    client.begin(.read, at: 1, length: 512)
    client.begin(.read, at: 0, length: 8192)
    client.begin(.trim, at: 4096, length: 512)
    client.begin(.read, at: 64 << 10, length: 512)
    try await server.wait { $0.held == 6 }
    let violations = server.facts.violations
    #expect(violations.count == 5, "\(violations)")
    for (violation, words) in zip(
      violations, ["bytes at 512 are in two changes", "aligned to 512", "too long", "not offered", "passes the end"])
    {
      #expect(violation.contains(words))
    }
  }

  @Test("a read-only export refuses changes")
  func readOnly() throws {
    server.behave { $0.offer.flags.insert(.readOnly) }
    #expect(Client(try server.connect()).write(7, at: 0) == .notPermitted)
    #expect(server.visible[0] == 0)
  }

  @Test("it can be reached by TCP and by a Unix socket, is refused while it is down, and comes back where it was")
  func addresses() async throws {
    let path = "\(NSTemporaryDirectory())/forgetful-\(getpid()).sock"
    defer { unlink(path) }
    let sizes = BlockSizes(minimum: 1, preferred: 4096, maximumPayload: 1 << 20)
    server.behave { $0.offer.blockSizes = sizes }
    for uri in [try server.listenOnTCP(), try server.listen(onUnix: path)] {
      for _ in 0..<2 {
        let link = try await negotiate(uri)
        #expect(link.export == server.export)
        let client = Client(link.socket)
        #expect(client.write(7, at: 0, flags: .fua) == nil)
        server.crash()
        #expect(client.isClosed)
        await #expect(throws: Failure.self) { try await negotiate(uri) }
        try server.restart()
      }
      #expect(Client(try await negotiate(uri).socket).read(at: 0) == [UInt8](repeating: 7, count: 512))
    }
  }

  @Test("a wait ends when its task is cancelled")
  func cancelled() async {
    let task = Task { [server] in try await server.received(count: 1) }
    task.cancel()
    await #expect(throws: CancellationError.self) { try await task.value }
  }

  private func negotiate(_ uri: ServerURI) async throws(Failure) -> Link {
    try await Negotiator().link(uri)
  }
}

private actor Negotiator {
  private nonisolated let executor = QueueExecutor(label: "negotiator")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  func link(_ server: ServerURI) async throws(Failure) -> Link {
    try await Connector(server: server, scope: AttemptScope(queue: executor.queue)).link(timeout: .seconds(30))
  }
}
