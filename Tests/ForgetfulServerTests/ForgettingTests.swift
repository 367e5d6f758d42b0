import ForgetfulServer
import NBDProtocol
import Testing

@Suite("What a server that forgets keeps", .timeLimit(.minutes(2)))
struct ForgettingTests {
  let server: ForgetfulServer
  let client: Client

  init() throws {
    server = try ForgetfulServer(size: 64 << 10)
    client = Client(try server.connect())
  }

  private func reconnected() throws -> Client {
    try server.restart()
    return Client(try server.connect())
  }

  @Test("an acknowledged write that nobody flushed is gone after a crash")
  func forgets() throws {
    #expect(client.write(7, at: 1024) == nil)
    #expect(client.read(at: 1024) == [UInt8](repeating: 7, count: 512))
    #expect(server.unsafeBlockCount == 1)
    server.crash()
    #expect(client.isClosed)
    #expect(try reconnected().read(at: 1024) == [UInt8](repeating: 0, count: 512))
    #expect(server.facts.crashes == 1)
  }

  @Test("what was flushed is there after a crash, what came later is not")
  func keepsFlushed() throws {
    #expect(client.write(7, at: 0) == nil)
    #expect(client.flush() == nil)
    #expect(client.write(8, at: 512) == nil)
    server.crash()
    let after = try reconnected()
    #expect(after.read(at: 0) == [UInt8](repeating: 7, count: 512))
    #expect(after.read(at: 512) == [UInt8](repeating: 0, count: 512))
  }

  @Test("a write with FUA is there after a crash, its neighbours are not")
  func keepsForced() throws {
    #expect(client.write(6, at: 0) == nil)
    #expect(client.write(7, at: 512, flags: .fua) == nil)
    server.crash()
    #expect(
      try reconnected().read(at: 0, count: 1024) == [UInt8](repeating: 0, count: 512)
        + [UInt8](repeating: 7, count: 512))
  }

  @Test("trims and zeroes are forgotten as writes are", arguments: [CommandCode.trim, .writeZeroes])
  func forgetsZeroes(command: CommandCode) throws {
    #expect(client.write(7, at: 0) == nil)
    #expect(client.flush() == nil)
    client.begin(command, at: 0, length: 512)
    #expect(client.reply()?.error == nil)
    #expect(client.read(at: 0) == [UInt8](repeating: 0, count: 512))
    server.crash()
    #expect(try reconnected().read(at: 0) == [UInt8](repeating: 7, count: 512))
  }

  @Test("a flush does not cover a write that was answered after it had come")
  func flushCoversNoMore() async throws {
    server.behave { $0.treat = { $0.request.command == .flush ? .hold : .serve } }
    #expect(client.write(7, at: 0) == nil)
    let flush = client.begin(.flush)
    try await server.received(count: 1, of: .flush)
    #expect(client.write(8, at: 512) == nil)
    server.finishHeld()
    #expect(client.reply() == Client.Reply(cookie: flush))
    #expect(server.durable[0] == 7)
    #expect(server.durable[512] == 0)
  }

  @Test("a flush covers the other connections only where the server says CAN_MULTI_CONN", arguments: [true, false])
  func flushOfOthers(isShared: Bool) throws {
    server.behave { if !isShared { $0.offer.flags.remove(.canMultiConn) } }
    let other = Client(try server.connect())
    #expect(client.write(7, at: 0) == nil)
    #expect(other.flush() == nil)
    #expect(server.durable[0] == (isShared ? 7 : 0))
    // What the other has written again is the other's.
    #expect(other.write(7, at: 0) == nil)
    #expect(other.flush() == nil)
    #expect(server.durable[0] == 7)
  }

  @Test("without FLUSH it writes through")
  func writesThrough() {
    server.behave { $0.offer.flags.remove(.sendFlush) }
    #expect(client.write(7, at: 0) == nil)
    server.crash()
    #expect(server.durable[0] == 7)
  }

  @Test("what survives a crash by chance is some of it, and the same for the same seed")
  func survivors() throws {
    func survivors(_ seed: UInt64) throws -> [UInt8] {
      let server = try ForgetfulServer(size: 64 << 10, seed: seed)
      #expect(Client(try server.connect()).write(7, at: 0, count: 64 << 10) == nil)
      server.crash(survival: 0.5)
      return server.durable
    }
    let first = try survivors(1)
    #expect(first.contains(0) && first.contains(7))
    #expect(try survivors(1) == first)
    #expect(try survivors(2) != first)
  }

  @Test("blocks become durable early, where it is told so")
  func writesBackEarly() throws {
    server.behave { $0.earlyWriteBack = 1 }
    #expect(client.write(7, at: 0, count: 1024) == nil)
    // The chance comes after the answer.
    #expect(client.read(at: 0) != nil)
    #expect(server.unsafeBlockCount < 2)
    #expect(server.durable.contains(7))
  }

  @Test(
    "it crashes at the point of a request that it is told",
    arguments: zip([Treatment.CrashPoint.beforeCarriedOut, .beforeAnswer, .afterAnswer], [UInt8(0), 7, 7]))
  func crashPoints(point: Treatment.CrashPoint, byte: UInt8) async throws {
    server.setSurvival(1)
    server.behave { $0.treat = { _ in .crash(point) } }
    let cookie = client.begin(.write, at: 0, data: [UInt8](repeating: 7, count: 512))
    try await server.wait { $0.crashes == 1 }
    #expect(client.reply() == (point == .afterAnswer ? Client.Reply(cookie: cookie) : nil))
    #expect(server.durable[0] == byte)
  }
}
