import NBDProtocol
import Testing

@Suite("NBD_OPT_LIST")
struct ListTests {
  @Test("entries come with and without a description, and are left by ABORT")
  func entries() {
    play(
      .list, .plain,
      .server(newstyle(3)), .client(clientFlags(3) + option(list)),
      .server(entry("")), .server(entry("data", "a description")), .server(entry("naïve")), .server(ack(list) + [1]),
      .unread([1]),
      .finishes(
        .exports([
          ExportEntry(name: ""), ExportEntry(name: "data", description: "a description"), ExportEntry(name: "naïve"),
        ])),
      .leaves(option(abort)))
  }

  @Test("a server may list nothing")
  func empty() {
    play(
      .list, .plain, .server(newstyle(1)), .client(clientFlags(1) + option(list)), .server(ack(list)),
      .finishes(.exports([])))
  }

  @Test("a refusal is final", arguments: [1, 2, 5] as [UInt32])
  func refused(number: UInt32) {
    play(
      .list, .plain, .server(newstyle(1)), .client(clientFlags(1) + option(list)),
      .server(errorReply(to: list, number, "no")),
      .fails(.refused(.list, OptionReplyCode(rawValue: 0x8000_0000 | number), text: "no")), .leaves(option(abort)))
  }

  @Test("name and description of 4096 bytes each are the most that is read")
  func longest() {
    let name = String(repeating: "n", count: 4096)
    let description = String(repeating: "d", count: 4096)
    play(
      .list, .plain, .server(newstyle(1)), .client(clientFlags(1) + option(list)),
      .server(entry(name, description) + ack(list)),
      .finishes(.exports([ExportEntry(name: name, description: description)])))
  }

  @Test("lengths beyond the string bound or the reply are violations")
  func lengths() {
    func fails(_ bytes: [UInt8], _ violation: HandshakeError.Violation, _ location: SourceLocation = #_sourceLocation) {
      play(
        .list, .plain, .server(newstyle(1)), .client(clientFlags(1) + option(list)),
        .server(bytes), .fails(.violation(violation)), .leaves([]), sourceLocation: location)
    }
    fails(reply(to: list, 2, be(UInt32(5)) + text("data")), .exportNameLength(5))
    fails(reply(to: list, 2, be(UInt32.max) + text("data")), .exportNameLength(.max))
    fails(entry(String(repeating: "n", count: 4097)), .exportNameLength(4097))
    fails(entry("", String(repeating: "d", count: 4097)), .replyLength(.server, 4101))
    fails(reply(to: list, 2, [0, 0, 0]), .replyLength(.server, 3))
    fails(reply(to: list, 2, length: 0), .replyLength(.server, 0))
    fails(reply(to: list, 2, length: 8197), .replyLength(.server, 8197))
    fails(reply(to: list, 2, length: .max), .replyLength(.server, .max))
  }

  @Test("a name that is not UTF-8, or has a NUL, is a violation; a description is repaired")
  func encoding() {
    for name: [UInt8] in [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0x61, 0x00]] {
      play(
        .list, .plain, .server(newstyle(1)), .client(clientFlags(1) + option(list)),
        .server(reply(to: list, 2, be(UInt32(name.count)) + name)), .fails(.violation(.exportName)), .leaves([]))
    }
    play(
      .list, .plain, .server(newstyle(1)), .client(clientFlags(1) + option(list)),
      .server(reply(to: list, 2, be(UInt32(1)) + text("a") + [0x62, 0xff]) + ack(list)),
      .finishes(.exports([ExportEntry(name: "a", description: "b\u{fffd}")])))
  }

  @Test("the number of entries is bounded")
  func tooMany() {
    var machine = Handshake(goal: .list, security: .plain)
    var step = machine.start()
    func feed(_ bytes: [UInt8]) throws { step = try machine.received(bytes) }
    let header = Array(entry("x").prefix(20))
    let data = Array(entry("x").dropFirst(20))
    #expect(throws: Never.self) {
      try feed(Array(newstyle(1).prefix(16)))
      try feed([0, 1])
      for _ in 0..<Handshake.maximumEntries {
        try feed(header)
        try feed(data)
      }
      try feed(header)
    }
    #expect(step.next == .receive(5))
    #expect(throws: HandshakeError.violation(.tooManyReplies(.list, limit: 10_000))) { try feed(data) }
  }
}
