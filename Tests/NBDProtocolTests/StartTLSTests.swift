import NBDProtocol
import Testing

@Suite("NBD_OPT_STARTTLS")
struct StartTLSTests {
  @Test("STARTTLS is the first option, and after its ACK not one byte more is read in clear")
  func starts() {
    play(
      .attach(export: "secret"), .tls,
      .server(newstyle(3)),
      .client(clientFlags(3) + option(startTLS)),
      .leaves([]),
      .server(ack(startTLS) + exportInfo(size: 1, flags: 1)),
      .unread(exportInfo(size: 1, flags: 1)),
      .leaves([]))
  }

  @Test("GO follows under TLS")
  func goes() {
    play(
      .attach(export: "secret"), .tls,
      .server(newstyle(3)), .client(clientFlags(3) + option(startTLS)),
      .server(ack(startTLS)), .startsTLS,
      .client(ask(go, "secret", infos: [3])),
      .server(exportInfo(size: 4096, flags: 1) + ack(go)),
      .finishes(.transmission(ExportInfo(name: "secret", size: 4096, flags: .hasFlags))),
      .leaves(disconnectRequest))
  }

  @Test("INFO and LIST follow under TLS, and are left by ABORT")
  func infoAndList() {
    play(
      .inspect(export: "secret"), .tls,
      .server(newstyle(1)), .client(clientFlags(1) + option(startTLS)), .server(ack(startTLS)), .startsTLS,
      .client(ask(info, "secret", infos: [1, 2, 3])), .leaves(option(abort)))
    play(
      .list, .tls,
      .server(newstyle(1)), .client(clientFlags(1) + option(startTLS)), .server(ack(startTLS)), .startsTLS,
      .client(option(list)), .server(entry("secret") + ack(list)),
      .finishes(.exports([ExportEntry(name: "secret")])), .leaves(option(abort)))
  }

  @Test("a refusal ends it, and no export name is sent", arguments: [1, 2, 3, 4, 5, 7, 99] as [UInt32])
  func refused(number: UInt32) {
    play(
      .attach(export: "secret"), .tls,
      .server(newstyle(3)), .client(clientFlags(3) + option(startTLS)),
      .server(errorReply(to: startTLS, number, "not here")),
      .fails(.refused(.startTLS, OptionReplyCode(rawValue: 0x8000_0000 | number), text: "not here")),
      .leaves(option(abort)))
  }

  @Test("a dropped FIXED_NEWSTYLE and an oldstyle greeting end before anything is sent")
  func downgraded() {
    for flags: UInt16 in [0, 2, 0xfffe] {
      play(
        .attach(export: "secret"), .tls,
        .server(newstyle(flags)), .fails(.styleTooOld(.newstyle, .tls)), .leaves([]))
    }
    play(
      .attach(export: ""), .tls,
      .server(oldstyle(size: 1, flags: 1)), .fails(.styleTooOld(.oldstyle, .tls)), .leaves([]))
  }

  @Test("other answers than ACK without data are violations")
  func violations() {
    func fails(_ bytes: [UInt8], _ violation: HandshakeError.Violation, _ location: SourceLocation = #_sourceLocation) {
      play(
        .attach(export: "secret"), .tls,
        .server(newstyle(3)), .client(clientFlags(3) + option(startTLS)),
        .server(bytes), .fails(.violation(violation)), .leaves([]), sourceLocation: location)
    }
    fails(reply(to: startTLS, 1, length: 1), .replyLength(.ack, 1))
    fails(reply(to: startTLS, 3, length: 12), .reply(.startTLS, .info))
    fails(reply(to: startTLS, 2, length: 12), .reply(.startTLS, .server))
    fails(ack(go), .echo(sent: .startTLS, received: 7))
  }

  @Test("under TLS there is no way around GO: with EXPORT_NAME a flag that was sent in clear would count")
  func noGo() {
    for flags: UInt16 in [1, 3] {
      play(
        .attach(export: "secret"), .tls,
        .server(newstyle(flags)), .client(clientFlags(UInt32(flags)) + option(startTLS)),
        .server(ack(startTLS)), .startsTLS, .client(ask(go, "secret", infos: [3])),
        .server(errorReply(to: go, 1)), .fails(.goUnsupportedUnderTLS), .leaves(option(abort)))
    }
  }

  @Test("a close while TLS is set up says so, and a failed TLS is left in silence")
  func closed() {
    play(
      .attach(export: "secret"), .tls,
      .server(newstyle(3)), .client(clientFlags(3) + option(startTLS)),
      .server(ack(startTLS)), .leaves([]), .closes(.closed(.tls)), .leaves([]))
    play(
      .attach(export: "secret"), .tls,
      .server(newstyle(3)), .client(clientFlags(3) + option(startTLS)), .closes(.closed(.reply(.startTLS))))
  }

  @Test("plaintext is never taken for TLS: without it the machine does not go on")
  func waits() throws {
    var machine = Handshake(goal: .attach(export: "secret"), security: .tls)
    _ = machine.start()
    _ = try machine.received(text("NBDMAGICIHAVEOPT"))
    _ = try machine.received([0, 3])
    #expect(try machine.received(ack(startTLS)) == Handshake.Step(next: .startTLS))
    #expect(throws: HandshakeError.outOfStep) { try machine.received(ack(go)) }
  }

  @Test("servers that force TLS say so to a client without it", arguments: [go, list, info])
  func forced(asked: UInt32) {
    let goal: Handshake.Goal = asked == list ? .list : asked == info ? .inspect(export: "") : .attach(export: "")
    let first = asked == list ? option(list) : ask(asked, "", infos: asked == info ? [1, 2, 3] : [3])
    play(
      goal, .plain,
      .server(newstyle(3)), .client(clientFlags(3) + first), .server(errorReply(to: asked, 5)),
      .fails(.refused(OptionCode(rawValue: asked) ?? .abort, .tlsRequired, text: "")), .leaves(option(abort)))
  }
}
