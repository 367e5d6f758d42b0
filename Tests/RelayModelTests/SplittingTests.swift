import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct SplittingTests {
  private let small = ServerLimits(maximumPayload: 8192, canMultiConn: true)

  @Test("a read above the maximum payload goes out in parts aligned to it, and is answered once, in any order")
  func read() {
    let scene = Scene()
    scene.join(1, small)
    scene.ask(.read, 1, at: 1, blocks: 4)
    let parts = scene.sent()
    #expect(parts.map(\.offset) == [4096, 8192, 16_384])
    #expect(parts.map(\.length) == [4096, 8192, 4096])
    #expect(scene.expected(parts[1])?.destination == .assembly(cookie: 1, offset: 4096, total: 16_384))
    #expect(scene.reply(parts[2]) == .part(kernelCookie: 1, offset: 12_288))
    #expect(scene.reply(parts[0]) == .part(kernelCookie: 1, offset: 0))
    #expect(scene.reply(parts[1]) == .assembled(kernelCookie: 1, offset: 4096, error: 0))
    #expect(scene.unanswered == 0)
  }

  @Test("a write goes out in parts of its payload, is answered once, and kept as one")
  func write() {
    let scene = Scene()
    scene.join(1, small)
    scene.write(1, at: 0, blocks: 4)
    let parts = scene.sent()
    #expect(parts.map(\.payload?.offset) == [28, 28 + 8192])
    #expect(parts.allSatisfy { !$0.isWhole })
    #expect(scene.reply(parts[1]) == .swallowed)
    #expect(scene.unflushed == 0)
    #expect(scene.reply(parts[0]) == .answer(kernelCookie: 1, error: 0))
    #expect(scene.unflushed == 1)
    #expect(scene.keptBytes == 16_384)
  }

  @Test("the first error wins")
  func error() {
    let scene = Scene()
    scene.join(1, small)
    scene.write(1, at: 0, blocks: 6)
    let parts = scene.sent()
    #expect(scene.reply(parts[0]) == .swallowed)
    #expect(scene.reply(parts[1], error: 28) == .swallowed)
    #expect(scene.reply(parts[2], error: 5) == .answer(kernelCookie: 1, error: 28))
    #expect(scene.unflushed == 0)
    #expect(scene.released() == [1])
  }

  @Test("trims and zeroes carry no payload and are not split")
  func zeroes() {
    let scene = Scene()
    scene.join(1, small)
    scene.ask(.writeZeroes, 1, blocks: 16)
    scene.ask(.trim, 2, at: 16, blocks: 16)
    #expect(scene.sent().map(\.length) == [65_536, 65_536])
  }

  @Test("one of several links is lost: only the parts that were on it are sent again")
  func lostPart() {
    let scene = Scene()
    scene.join(1, small)
    scene.join(2, small)
    scene.ask(.read, 1, blocks: 4)
    let parts = scene.sent()
    #expect(parts.map(\.link) == [1, 2])
    scene.lose(2)
    let again = scene.sent()
    #expect(again.map(\.offset) == [8192])
    scene.reply(again[0])
    #expect(scene.reply(parts[0]) == .assembled(kernelCookie: 1, offset: 0, error: 0))
  }

  @Test("a write of which a lost server has acknowledged a part is sent again whole")
  func restarted() {
    let scene = Scene()
    scene.join(1, small)
    scene.write(1, at: 0, blocks: 4)
    scene.reply(scene.sent()[0])
    scene.lose(1)
    scene.join(2, small)
    #expect(scene.sent().map(\.offset) == [0, 8192])
  }

  @Test("a read keeps the parts that it has when the server is lost")
  func keptParts() {
    let scene = Scene()
    scene.join(1, small)
    scene.ask(.read, 1, blocks: 4)
    scene.reply(scene.sent()[0])
    scene.lose(1)
    scene.join(2, small)
    let rest = scene.sent()
    #expect(rest.map(\.offset) == [8192])
    #expect(scene.reply(rest[0]) == .assembled(kernelCookie: 1, offset: 8192, error: 0))
  }

  @Test("a part that is too long for the next server becomes smaller ones")
  func smallerServer() {
    let scene = Scene()
    scene.join(1, small)
    scene.ask(.read, 1, blocks: 4)
    scene.reply(scene.sent()[0])
    scene.lose(1)
    scene.join(2, ServerLimits(maximumPayload: 4096))
    let rest = scene.sent()
    #expect(rest.map(\.offset) == [8192, 12_288])
    #expect(scene.reply(rest[1]) == .part(kernelCookie: 1, offset: 12_288))
    #expect(scene.reply(rest[0]) == .assembled(kernelCookie: 1, offset: 8192, error: 0))
  }

  @Test("a kept write is split for the server that it is replayed to")
  func replay() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0, blocks: 4)
    scene.answerAll()
    scene.lose(1)
    scene.join(2, small)
    let parts = scene.sent()
    #expect(parts.map(\.payload?.offset) == [28, 28 + 8192])
    #expect(parts.allSatisfy { !$0.isWhole })
    for part in parts { scene.reply(part) }
    #expect(scene.events() == [.recovered(resent: 0, replayed: 1, bytes: 16_384)])
  }

  @Test("parts end where the server's blocks do, also when its maximum is no power of two")
  func blocks() {
    let scene = Scene()
    scene.join(1, ServerLimits(maximumPayload: 3 * 4096))
    scene.ask(.read, 1, at: 2, blocks: 8)
    let parts = scene.sent()
    #expect(parts.map(\.offset) == [8192, 12_288, 24_576, 36_864])
    #expect(parts.map(\.length) == [4096, 12_288, 12_288, 4096])
  }

  @Test("a long request and a small server don't fill the table")
  func bounded() {
    let scene = Scene()
    scene.join(1, ServerLimits(maximumPayload: 0))
    scene.ask(.read, 1, blocks: 8192)
    var parts = scene.sent()
    #expect(parts.count == 1024)
    var answers = 0
    while let part = parts.popLast() {
      if case .assembled(1, _, 0) = scene.reply(part) { answers += 1 }
      parts += scene.sent()
    }
    #expect(answers == 1)
  }
}
