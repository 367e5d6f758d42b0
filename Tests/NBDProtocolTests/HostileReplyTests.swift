import NBDProtocol
import Testing

@Suite("Replies of hostile and broken servers")
struct HostileReplyTests {
  /// After GO was sent, the server's bytes end it with this violation and without a farewell.
  private func go(_ bytes: [UInt8], fails violation: HandshakeError.Violation, _ location: SourceLocation) {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(NBDProtocolTests.go, "data", infos: [3])),
      .server(bytes), .fails(.violation(violation)), .leaves([]), sourceLocation: location)
  }

  @Test("a wrong magic number ends it, whatever the option")
  func magic() {
    let wrong: UInt64 = 0x0003_e889_0455_65a8
    go(reply(to: 7, 1, magic: wrong), fails: .replyMagic(wrong), #_sourceLocation)
    go([UInt8](repeating: 0, count: 20), fails: .replyMagic(0), #_sourceLocation)
    for (goal, option) in [(Handshake.Goal.list, list), (.inspect(export: ""), info)] {
      let first = option == list ? NBDProtocolTests.option(list) : ask(info, "", infos: [1, 2, 3])
      play(
        goal, .plain,
        .server(newstyle(3)), .client(clientFlags(3) + first),
        .server(reply(to: option, 1, magic: wrong)), .fails(.violation(.replyMagic(wrong))), .leaves([]))
    }
  }

  @Test("a reply to another option ends it", arguments: [0, 1, 2, 3, 5, 6, 8, 0x0700_0000, .max] as [UInt32])
  func echo(other: UInt32) {
    go(reply(to: other, 1), fails: .echo(sent: .go, received: other), #_sourceLocation)
    go(errorReply(to: other, 1), fails: .echo(sent: .go, received: other), #_sourceLocation)
  }

  @Test("replies that an option can't have end it", arguments: [0, 2, 4, 5, 0x7fff_ffff] as [UInt32])
  func type(code: UInt32) {
    let reply = reply(to: 7, code, length: 8)
    go(reply, fails: .reply(.go, OptionReplyCode(rawValue: code)), #_sourceLocation)
  }

  @Test("an INFO to LIST, and a SERVER to INFO, end it")
  func crossed() {
    play(
      .list, .plain, .server(newstyle(3)), .client(clientFlags(3) + option(list)),
      .server(exportInfo(to: list, size: 1, flags: 1)), .fails(.violation(.reply(.list, .info))), .leaves([]))
    play(
      .inspect(export: ""), .plain, .server(newstyle(3)), .client(clientFlags(3) + ask(info, "", infos: [1, 2, 3])),
      .server(reply(to: info, 2, be(UInt32(0)))), .fails(.violation(.reply(.info, .server))), .leaves([]))
  }

  @Test("an ACK carries no data; none is asked for")
  func ackLength() {
    go(reply(to: 7, 1, length: 1), fails: .replyLength(.ack, 1), #_sourceLocation)
    go(reply(to: 7, 1, length: .max), fails: .replyLength(.ack, .max), #_sourceLocation)
  }

  @Test("every info of a wrong length ends it, before more than a piece is read", arguments: [0, 1] as [UInt32])
  func shortInfo(length: UInt32) {
    go(reply(to: 7, 3, length: length), fails: .replyLength(.info, length), #_sourceLocation)
  }

  @Test("EXPORT has 12 bytes and BLOCK_SIZE 14, neither less nor more")
  func infoLengths() {
    for (code, right) in [(0, 12), (3, 14)] as [(UInt16, UInt32)] {
      for length in [2, right - 1, right + 1, 8192] {
        let data = be(code) + [UInt8](repeating: 0, count: Int(length) - 2)
        let violation = HandshakeError.Violation.infoLength(InfoCode(rawValue: code), length)
        go(reply(to: 7, 3, data), fails: violation, #_sourceLocation)
      }
      let huge = reply(to: 7, 3, be(code) + [UInt8](repeating: 0, count: Handshake.maximumReceive - 2), length: 1 << 24)
      go(huge, fails: .infoLength(InfoCode(rawValue: code), 1 << 24), #_sourceLocation)
    }
  }

  @Test("names and descriptions in infos are bounded by 4096 bytes", arguments: [1, 2] as [UInt16])
  func infoStrings(code: UInt16) {
    let data = be(code) + [UInt8](repeating: 0x61, count: 4097)
    go(reply(to: 7, 3, data), fails: .infoLength(InfoCode(rawValue: code), 4099), #_sourceLocation)
  }

  @Test("a canonical name that is not UTF-8 without NUL ends it")
  func infoName() {
    go(reply(to: 7, 3, be(UInt16(1)) + [0xff]), fails: .exportName, #_sourceLocation)
    go(reply(to: 7, 3, be(UInt16(1)) + [0]), fails: .exportName, #_sourceLocation)
  }

  @Test("infos without end come to an end")
  func infosForEver() {
    let infos = (0...Handshake.maximumInfos).flatMap { _ in exportInfo(size: 1, flags: 1) }
    go(infos, fails: .tooManyReplies(.go, limit: 64), #_sourceLocation)
  }

  @Test("an announced length above the bound is refused before a byte of it is read")
  func announced() {
    go(reply(to: 7, 3, length: 32 << 20 + 1), fails: .tooMuchData, #_sourceLocation)
    go(reply(to: 7, 0x8000_0002, length: .max), fails: .tooMuchData, #_sourceLocation)
    let first = reply(to: 7, 3, be(UInt16(99)) + [0])
    go(first + reply(to: 7, 3, length: 32 << 20 - 2), fails: .tooMuchData, #_sourceLocation)
  }

  @Test("of an overlong error text 4096 bytes are kept, the rest is read and dropped")
  func longErrorText() {
    let kept = String(repeating: "a", count: 4096)
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(NBDProtocolTests.go, "data", infos: [3])),
      .server(errorReply(to: 7, 2, kept + String(repeating: "b", count: 50_000))),
      .unread([]),
      .fails(.refused(.go, .policy, text: kept)), .leaves(option(abort)))
  }

  @Test("error text that is not UTF-8 is repaired, not refused")
  func brokenErrorText() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(NBDProtocolTests.go, "data", infos: [3])),
      .server(reply(to: 7, 0x8000_0002, [0x6e, 0xff, 0x6f])),
      .fails(.refused(.go, .policy, text: "n\u{fffd}o")))
  }

  @Test("a cut at any byte of a good conversation is a close, and asks for nothing after it")
  func truncated() {
    let whole = exportInfo(size: 4096, flags: 1) + blockSizeInfo(1, 512, 1 << 20) + ack(NBDProtocolTests.go)
    for count in 0..<whole.count {
      play(
        .attach(export: "data"), .plain,
        .server(newstyle(3)), .client(clientFlags(3) + ask(NBDProtocolTests.go, "data", infos: [3])),
        .server(Array(whole.prefix(count))), .closes(.closed(.reply(.go))), .leaves([]))
    }
  }

  @Test("after an error the machine stays with it")
  func stays() {
    var machine = play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(NBDProtocolTests.go, "data", infos: [3])),
      .server(errorReply(to: 7, 6)))
    let error = HandshakeError.refused(.go, .unknown, text: "")
    #expect(throws: error) { try machine.received(ack(7)) }
    #expect(throws: error) { try machine.tlsEstablished() }
    #expect(machine.peerClosed() == error)
    #expect(machine.farewell == option(abort))
  }
}
