import Testing

@testable import LinuxKernel

/// Whatever arrives is parsed or refused: a trap would end the test process.
@Suite("netlink bytes that make no sense")
struct NetlinkHostileTests {
  private static let good = [
    GenericNetlinkTests.nbdFamily,
    bytes("1c 00 00 00 20 00 00 00 02 00 00 00 3c 6b e1 a3 01 01 00 00 08 00 01 00 05 00 00 00"),
    bytes("1c 00 00 00 20 00 00 00 02 00 00 00 00 00 00 00 04 01 00 00 08 00 01 00 05 00 00 00"),
    bytes(
      """
      40 00 00 00 20 00 00 00 02 00 00 00 8f 56 e6 aa 05 01 00 00 2c 00 09 00
      14 00 01 00 08 00 01 00 00 00 00 00 05 00 02 00 01 00 00 00
      14 00 01 00 08 00 01 00 05 00 00 00 05 00 02 00 00 00 00 00
      """),
    bytes(
      """
      34 00 00 00 02 00 00 03 02 00 00 00 e6 1f 00 00 ea ff ff ff 24 00 00 00 10 00 05 00 09 00 00 00 00 00 00 00
      07 00 01 00 6e 6f 00 00 08 00 02 00 14 00 00 00
      """),
    bytes("14 00 00 00 03 00 02 00 02 00 00 00 00 00 00 00 00 00 00 00"),
  ]

  @Test("the samples are good, so that their mutations reach every parser")
  func samples() throws {
    for sample in Self.good { try Self.parse(sample) }
  }

  @Test("random bytes never trap", arguments: 0..<20)
  func random(seed: Int) {
    var generator = SeededGenerator(state: UInt64(seed))
    for _ in 0..<500 {
      let count = Int.random(in: 0...200, using: &generator)
      try? Self.parse((0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) })
    }
  }

  @Test("good messages with bytes changed, cut, repeated or joined never trap", arguments: 0..<20)
  func mutated(seed: Int) {
    var generator = SeededGenerator(state: UInt64(1000 + seed))
    for _ in 0..<1000 {
      var datagram = Self.good.randomElement(using: &generator) ?? []
      if Bool.random(using: &generator) { datagram += Self.good.randomElement(using: &generator) ?? [] }
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        guard let place = datagram.indices.randomElement(using: &generator) else { continue }
        switch Int.random(in: 0..<4, using: &generator) {
        case 0: datagram[place] = [0, 1, 3, 4, 0x7f, 0x80, 0xff].randomElement(using: &generator) ?? 0
        case 1: datagram[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
        case 2: datagram.removeSubrange(place...)
        default: datagram.insert(contentsOf: datagram[place...].prefix(8), at: place)
        }
      }
      try? Self.parse(datagram)
    }
  }

  @Test("every prefix of a good message is refused or a part of it")
  func prefixes() {
    for sample in Self.good {
      for length in sample.indices { try? Self.parse(Array(sample[..<length])) }
    }
  }

  /// All that is ever done to bytes from a netlink socket.
  private static func parse(_ datagram: [UInt8]) throws {
    var conversation = NetlinkConversation(sequence: 2)
    defer { _ = try? conversation.receive(datagram) }
    for message in try NetlinkMessage.parse(datagram) {
      guard try NetlinkAcknowledgement(message) == nil else { continue }
      guard try GenericNetlinkFamily.announcement(in: message) == nil else { continue }
      let message = try GenericNetlinkMessage(message)
      _ = try NBDReply.connectedIndex(in: message)
      _ = try NBDReply.deadLinkIndex(in: message)
      _ = try NBDReply.statuses(in: message)
    }
  }
}
