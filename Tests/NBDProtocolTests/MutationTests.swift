import NBDProtocol
import Testing

/// SplitMix64: the same numbers in every run.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }
}

/// One server's side of a good conversation, in the messages that a mutation may drop, repeat or swap.
struct GoodServer: Sendable, CustomTestStringConvertible {
  var testDescription: String
  var goal: Handshake.Goal
  var security = Handshake.Security.plain
  var messages: [[UInt8]]

  static let all = [
    GoodServer(testDescription: "oldstyle", goal: .attach(export: ""), messages: [oldstyle(size: 4096, flags: 1)]),
    GoodServer(
      testDescription: "newstyle", goal: .attach(export: "data"),
      messages: [newstyle(0), be(UInt64(4096)) + be(UInt16(1)), zeroes]),
    GoodServer(
      testDescription: "GO", goal: .attach(export: "data"),
      messages: [newstyle(3), exportInfo(size: 4096, flags: 1), blockSizeInfo(512, 4096, 1 << 20), ack(go)]),
    GoodServer(
      testDescription: "INFO", goal: .inspect(export: "data"),
      messages: [
        newstyle(3), nameInfo(to: info, "data"), descriptionInfo(to: info, "text"),
        exportInfo(to: info, size: 4096, flags: 1), ack(info),
      ]),
    GoodServer(
      testDescription: "fallback", goal: .attach(export: "data"),
      messages: [
        newstyle(1), errorReply(to: go, 1, "unknown"), entry("other"), entry("data", "text"), ack(list),
        be(UInt64(4096)) + be(UInt16(1)), zeroes,
      ]),
    GoodServer(
      testDescription: "LIST", goal: .list, messages: [newstyle(3), entry("a"), entry("b", "text"), ack(list)]),
    GoodServer(
      testDescription: "STARTTLS", goal: .attach(export: "data"), security: .tls,
      messages: [newstyle(3), ack(startTLS), exportInfo(size: 4096, flags: 1), ack(go)]),
    GoodServer(
      testDescription: "refusal", goal: .attach(export: "data"), messages: [newstyle(3), errorReply(to: go, 2, "no")]),
  ]

  /// The bytes of a server that went wrong somewhere.
  func mutated(by generator: inout SeededGenerator) -> [UInt8] {
    var messages = messages
    switch Int.random(in: 0..<8, using: &generator) {
    case 0: messages.remove(at: Int.random(in: messages.indices, using: &generator))
    case 1: messages.insert(messages.randomElement(using: &generator) ?? [], at: messages.count)
    case 2: messages.swapAt(0, Int.random(in: messages.indices, using: &generator))
    default: break
    }
    var bytes = messages.flatMap(\.self)
    for _ in 0..<Int.random(in: 0...4, using: &generator) where !bytes.isEmpty {
      let index = Int.random(in: bytes.indices, using: &generator)
      switch Int.random(in: 0..<6, using: &generator) {
      case 0: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 1: bytes[index] = [0, 1, 0x7f, 0x80, 0xff].randomElement(using: &generator) ?? 0
      case 2: bytes[index] = UInt8.random(in: 0...255, using: &generator)
      case 3: bytes.remove(at: index)
      case 4: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: index)
      default: bytes.removeSubrange(index...)
      }
    }
    return bytes
  }
}

@Suite("Mutated conversations")
struct MutationTests {
  @Test("any server's bytes end in an outcome, an error or a close, within the bounds", arguments: GoodServer.all)
  func ends(server: GoodServer) {
    var generator = SeededGenerator(state: 0x6e62_6461_7474)
    var good = 0
    for _ in 0..<3000 {
      let bytes = server.mutated(by: &generator)
      if converse(server, bytes) { good += 1 }
    }
    // A mutation that spoils everything, or nothing, would test nothing.
    #expect((1..<3000).contains(good))
  }

  @Test("the unmutated conversations reach their end", arguments: GoodServer.all)
  func unmutated(server: GoodServer) {
    #expect(converse(server, server.messages.flatMap(\.self)) == (server.testDescription != "refusal"))
  }

  /// Whether an outcome was reached; checks on the way what holds of every conversation.
  private func converse(_ server: GoodServer, _ bytes: [UInt8]) -> Bool {
    var machine = Handshake(goal: server.goal, security: server.security)
    var step = machine.start()
    var unread = bytes[...]
    var isClear = true
    for _ in 0...bytes.count + 1 {
      if server.security == .tls, isClear { #expect(!contains(step.send, text("data"))) }
      do throws(HandshakeError) {
        switch step.next {
        case .finished: return true
        case .startTLS:
          isClear = false
          step = try machine.tlsEstablished()
        case .receive(let count):
          guard (1...Handshake.maximumReceive).contains(count) else {
            Issue.record("asked for \(count) bytes after \(bytes)")
            return false
          }
          guard unread.count >= count else {
            check(machine.peerClosed(), bytes)
            return false
          }
          step = try machine.received(Array(unread.prefix(count)))
          unread = unread.dropFirst(count)
        }
      } catch {
        check(error, bytes)
        #expect([[], option(abort)].contains(machine.farewell))
        return false
      }
    }
    Issue.record("no end after \(bytes)")
    return false
  }

  private func check(_ error: HandshakeError, _ bytes: [UInt8]) {
    #expect(error != .outOfStep, "after \(bytes)")
    let message = error.message
    #expect(
      message.utf8.count < 4096 && message.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control })
  }

  private func contains(_ bytes: [UInt8], _ part: [UInt8]) -> Bool {
    bytes.indices.contains { bytes[$0...].starts(with: part) }
  }
}
