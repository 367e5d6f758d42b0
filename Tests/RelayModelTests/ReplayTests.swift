import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct ReplayTests {
  /// Two kept writes to one block and one to another, one write and one read under way.
  private func interrupted() -> Scene {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.write(2, at: 0)
    scene.write(3, at: 1)
    scene.answerAll()
    scene.write(4, at: 0)
    scene.ask(.read, 5, at: 0)
    _ = scene.sent()
    scene.lose(1)
    return scene
  }

  @Test("nothing goes out while no link is there, and nothing is answered")
  func held() {
    let scene = interrupted()
    scene.ask(.read, 6)
    #expect(scene.sent().isEmpty)
    #expect(scene.answers().isEmpty)
    #expect(scene.waiting == 3)
  }

  @Test("a new link gets the log in its order, then what was under way, then the rest")
  func order() {
    let scene = interrupted()
    scene.ask(.read, 6, at: 7)
    scene.join(2)
    let first = scene.sent()
    // The third overlaps neither and would pass, but the log keeps its order.
    #expect(first.map(\.payload?.segment) == [1])
    scene.reply(first[0])
    let second = scene.sent()
    #expect(second.map(\.payload?.segment) == [2, 3])
    #expect(second.allSatisfy { $0.isWhole && scene.expected($0)?.destination == .nobody })
    scene.reply(second[1])
    #expect(scene.sent().isEmpty)
    scene.reply(second[0])
    #expect(scene.events() == [.resent(count: 2), .recovered(resent: 2, replayed: 3, bytes: 3 * 4096)])
    #expect(scene.sent().map(\.command) == [.write, .read, .read])
    #expect(scene.unflushed == 3)
  }

  @Test("a link that is lost in the middle of a replay: from the start")
  func again() {
    let scene = interrupted()
    scene.join(2)
    scene.reply(scene.sent()[0])
    _ = scene.sent()
    scene.lose(2)
    #expect(scene.sent().isEmpty)
    scene.join(3)
    #expect(scene.sent().map(\.payload?.segment) == [1])
    scene.answerAll()
  }

  @Test("another link that has joined takes over a replay")
  func takenOver() {
    let scene = interrupted()
    scene.join(2)
    scene.join(3)
    #expect(scene.sent().map(\.link) == [2])
    scene.lose(2)
    #expect(scene.sent().map(\.link) == [3])
  }

  @Test("FAST_ZERO is a wish that a replay does not repeat")
  func fastZero() {
    let scene = Scene()
    scene.join(1)
    scene.ask(.writeZeroes, 1, flags: [.fastZero, .noHole])
    scene.answerAll()
    scene.lose(1)
    scene.join(2)
    #expect(scene.sent().map(\.flags) == [.noHole])
  }

  @Test("a server that refuses what another had acknowledged: the loss is said, FLUSH and FUA get EIO once")
  func refused() {
    let scene = interrupted()
    scene.join(2)
    scene.reply(scene.sent()[0])
    let rest = scene.sent()
    scene.reply(rest[0], error: 28)
    scene.reply(rest[1], error: 1)
    #expect(
      scene.events() == [
        .resent(count: 2), .dataLost(LostRange(offset: 0, length: 4096, error: 28)),
        .dataLost(LostRange(offset: 4096, length: 4096, error: 1)),
        .recovered(resent: 2, replayed: 1, bytes: 4096),
      ])
    #expect(scene.unflushed == 1)
    #expect(scene.released() == [2, 3])
    scene.answerAll()
    for (cookie, error) in [(10, 5), (11, 0)] as [(UInt64, UInt32)] {
      scene.ask(.flush, cookie)
      #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: cookie, error: error))
    }
    for (cookie, error) in [(12, 5), (13, 0)] as [(UInt64, UInt32)] {
      scene.write(cookie, at: 0, flags: .fua)
      #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: cookie, error: error))
    }
  }

  @Test("neighbours that are refused are told of as one, and what is told is bounded, with nothing left out")
  func manyRefused() {
    for step in [1, 2] as [UInt64] {
      let scene = Scene(LedgerLimits(unflushedBytes: 8 << 20))
      scene.join(1)
      for number in 0..<200 as Range<UInt64> {
        scene.write(number + 1, at: number * step)
        scene.answerAll()
      }
      scene.lose(1)
      scene.join(2)
      var sent = scene.sent()
      while !sent.isEmpty {
        for transmission in sent { scene.reply(transmission, error: 28) }
        sent = scene.sent()
      }
      let losses = scene.events().compactMap { if case .dataLost(let range) = $0 { range } else { nil } }
      #expect(losses.reduce(0) { $0 + $1.writes } == 200)
      #expect(losses.reduce(0) { $0 + $1.bytes } == 200 * 4096)
      if step == 1 {
        #expect(losses == [LostRange(offset: 0, length: 200 * 4096, error: 28, writes: 200)])
      } else {
        #expect(losses.count == 65)
        #expect(losses.first == LostRange(offset: 0, length: 4096, error: 28))
        #expect(losses.last?.offset == 128 * 4096 && losses.last?.length == 271 * 4096)
      }
    }
  }

  @Test("what a server has refused before its link was lost is told then")
  func refusedAndLost() {
    let scene = interrupted()
    scene.join(2)
    scene.reply(scene.sent()[0], error: 28)
    #expect(scene.events() == [.resent(count: 2)])
    scene.lose(2)
    #expect(scene.events() == [.dataLost(LostRange(offset: 0, length: 4096, error: 28))])
  }

  @Test("a trim that is refused has lost nothing")
  func refusedTrim() {
    let scene = Scene()
    scene.join(1)
    scene.ask(.trim, 1)
    scene.answerAll()
    scene.lose(1)
    scene.join(2)
    scene.reply(scene.sent()[0], error: 95)
    #expect(scene.events().isEmpty)
    #expect(scene.unflushed == 0)
  }

  @Test("ESHUTDOWN is a lost link: the request waits, and nothing more goes out on it")
  func shutdown() {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 0)
    scene.ask(.read, 2)
    let sent = scene.sent()
    #expect(scene.reply(sent[0], error: 108) == .linkIsEnding)
    #expect(scene.reply(sent[1], error: 108) == .linkIsEnding)
    scene.ask(.read, 3)
    #expect(scene.sent().isEmpty)
    scene.lose(1)
    scene.join(2)
    #expect(scene.sent().map(\.command) == [.write, .read, .read])
  }

  @Test("ESHUTDOWN in a replay is no refusal")
  func shutdownInReplay() {
    let scene = interrupted()
    scene.join(2)
    #expect(scene.reply(scene.sent()[0], error: 108) == .linkIsEnding)
    scene.join(3)
    // The write on the link that ends may still be carried out.
    #expect(scene.sent().isEmpty)
    scene.lose(2)
    #expect(scene.sent().map(\.payload?.segment) == [1])
    #expect(scene.unflushed == 3)
  }

  @Test("a server without FLUSH has nothing to forget: what was replayed to it is safe")
  func noFlush() {
    let scene = interrupted()
    scene.join(2, ServerLimits(canFlush: false))
    scene.answerAll()
    #expect(scene.unflushed == 0)
  }
}
