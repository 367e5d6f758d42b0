import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct HandOverTests {
  /// What three writes, zeroes and a trim leave, of which one write was flushed.
  private func left() -> (writes: [LoggedWrite], errors: OwedErrors) {
    let scene = Scene()
    scene.join(1)
    scene.write(1, at: 9)
    scene.answerAll()
    scene.ask(.flush, 2)
    scene.answerAll()
    scene.write(3, at: 0, blocks: 2)
    scene.write(4, at: 1, flags: .fua)
    scene.ask(.writeZeroes, 5, at: 1, flags: [.noHole])
    scene.ask(.trim, 6, at: 4, blocks: 8)
    scene.answerAll()
    scene.lose(1)
    return (scene.loggedWrites, scene.errorsOwed)
  }

  private func heir(_ limits: LedgerLimits = LedgerLimits(unflushedBytes: 1 << 20)) -> Scene {
    let scene = Scene(limits)
    let (writes, errors) = left()
    #expect(scene.inherit(writes, owing: errors))
    return scene
  }

  @Test("what is left is the log in its order, with the kinds, flags and payloads that it was sent with")
  func exported() {
    let (writes, errors) = left()
    #expect(
      writes == [
        LoggedWrite(.write, offset: 0, length: 8192, payload: PayloadLocation(segment: 3, offset: 28)),
        LoggedWrite(.write, flags: .fua, offset: 4096, length: 4096, payload: PayloadLocation(segment: 4, offset: 28)),
        LoggedWrite(.writeZeroes, flags: .noHole, offset: 4096, length: 4096),
        LoggedWrite(.trim, offset: 16384, length: 32768),
      ])
    #expect(errors.isEmpty)
  }

  @Test("the heir's first link gets the log before anything else; what the kernel sends again comes after it")
  func replayed() {
    let scene = heir()
    #expect(scene.unflushed == 4 && scene.keptBytes == 3 * 4096)
    scene.write(7, at: 1)
    scene.ask(.read, 8, at: 1)
    #expect(scene.sent().isEmpty)
    scene.join(1)
    #expect(!scene.isFlowing)
    var order: [CommandCode] = []
    // One after the other where they overlap; the read waits for all.
    while order.count < 4 {
      for next in scene.sent() {
        order.append(next.command)
        scene.reply(next)
      }
    }
    #expect(order == [.write, .write, .writeZeroes, .trim])
    #expect(scene.isFlowing)
    #expect(scene.events() == [.recovered(resent: 0, replayed: 4, bytes: 3 * 4096)])
    #expect(scene.sent().map(\.command) == [.write, .read])
  }

  @Test("a link that is lost in the middle of the replay: the next one gets all of it, and so would a third process")
  func interrupted() {
    let scene = heir()
    scene.join(1)
    scene.reply(scene.sent()[0])
    #expect(!scene.isFlowing)
    scene.lose(1)
    #expect(scene.loggedWrites == left().writes)
    scene.join(2)
    #expect(scene.sent().map(\.payload?.segment) == [3])
  }

  @Test("what was inherited is flushed as everything else, and its payloads are given back once")
  func flushed() {
    let scene = heir()
    scene.join(1)
    scene.answerAll()
    scene.ask(.flush, 9)
    #expect(scene.answerAll().map(\.command) == [.flush])
    #expect(scene.unflushed == 0)
    #expect(scene.released() == [3, 4])
  }

  @Test("a log above the limits is taken over whole; then writes wait for a FLUSH")
  func aboveLimits() {
    let scene = heir(LedgerLimits(unflushedBytes: 4096, unflushedEntries: 2))
    scene.write(7, at: 20)
    scene.join(1)
    var order: [CommandCode] = []
    for _ in 0..<9 {
      for next in scene.sent() {
        order.append(next.command)
        scene.reply(next)
      }
    }
    #expect(order == [.write, .write, .writeZeroes, .trim, .flush, .write, .flush])
  }

  @Test("an error that is owed is told by the heir's FLUSH and FUA, once each")
  func owed() {
    let scene = Scene()
    #expect(scene.inherit([], owing: OwedErrors(toFlush: true, toFUA: true)))
    #expect(scene.owesError)
    scene.join(1)
    for (cookie, error) in [(1, 5), (2, 0)] as [(UInt64, UInt32)] {
      scene.ask(.flush, cookie)
      #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: cookie, error: error))
    }
    for (cookie, error) in [(3, 5), (4, 0)] as [(UInt64, UInt32)] {
      scene.write(cookie, at: 0, flags: .fua)
      #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: cookie, error: error))
    }
    scene.ledger.answersSent()
    #expect(scene.errorsOwed.isEmpty)
  }

  @Test("an error in an answer that may not have reached the kernel is owed still, also to its new socket")
  func unheard() {
    let scene = Scene()
    _ = scene.inherit([], owing: OwedErrors(toFlush: true, toFUA: true))
    scene.join(1)
    scene.ask(.flush, 1)
    #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: 1, error: 5))
    #expect(!scene.owesError)
    #expect(scene.errorsOwed == OwedErrors(toFlush: true, toFUA: true))
    scene.ledger.kernelReset()
    scene.ask(.flush, 1)
    #expect(scene.reply(scene.sent()[0]) == .answer(kernelCookie: 1, error: 5))
    scene.ledger.answersSent()
    #expect(scene.errorsOwed == OwedErrors(toFUA: true))
    scene.ledger.kernelReset()
    #expect(!scene.owesError)
  }

  @Test("a refusal in the heir's replay is a loss like any other")
  func refused() {
    let scene = heir()
    scene.join(1)
    let first = scene.sent()
    scene.reply(first[0], error: 28)
    scene.answerAll()
    #expect(scene.events().first == .dataLost(LostRange(offset: 0, length: 8192, error: 28)))
    #expect(scene.owesError)
  }

  @Test("nothing is inherited by a ledger that is at work, and nothing that is no write")
  func refusedInheritance() {
    let (writes, errors) = left()
    let joined = Scene()
    joined.join(1)
    #expect(!joined.inherit(writes, owing: errors))
    let asked = Scene()
    asked.ask(.read, 1)
    #expect(!asked.inherit(writes, owing: errors))
    let twice = heir()
    #expect(!twice.inherit(writes, owing: errors))
    for bad in [
      LoggedWrite(.read, offset: 0, length: 512), LoggedWrite(.flush, offset: 0, length: 0),
      LoggedWrite(.write, offset: 0, length: 512),
      LoggedWrite(.trim, offset: 0, length: 512, payload: PayloadLocation(segment: 0, offset: 28)),
    ] {
      let scene = Scene()
      #expect(!scene.inherit(writes + [bad], owing: errors))
      #expect(scene.unflushed == 0)
    }
  }

  @Test("while a server may have writes of a former process nothing is sent, the log neither; then the log comes first")
  func fenced() {
    let scene = heir()
    scene.ledger.fence()
    scene.write(7, at: 1)
    scene.ask(.read, 8, at: 1)
    scene.join(1)
    scene.join(2)
    #expect(scene.sent().isEmpty && scene.ledger.holdsIO)
    scene.lose(1)
    scene.ledger.unfence()
    let replayed = scene.sent()
    #expect(replayed.first?.link == 2 && replayed.first?.command == .write && replayed.first?.offset == 0)
    for write in replayed { scene.reply(write) }
    scene.answerAll()
    #expect(scene.ledger.unanswered == 0 && !scene.ledger.holdsIO)
  }

  @Test("unfenced without a link it waits for one; fenced too late, it is not")
  func fencedInTime() {
    let scene = Scene()
    scene.ledger.fence()
    scene.write(1, at: 0)
    scene.ledger.unfence()
    #expect(scene.sent().isEmpty)
    scene.join(1)
    scene.ledger.fence()
    #expect(scene.sent().count == 1)
  }
}
