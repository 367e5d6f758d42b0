import NBDProtocol
import Testing

@Suite("Greeting and style")
struct GreetingTests {
  @Test("an oldstyle server's export takes 152 bytes, and nothing is sent")
  func oldstyleExport() {
    let machine = play(
      .attach(export: ""), .plain,
      .server(oldstyle(size: 1 << 30, flags: 0x0025) + [0x67, 0x44]),
      .unread([0x67, 0x44]),
      .finishes(.transmission(ExportInfo(name: "", size: 1 << 30, flags: [.hasFlags, .sendFlush, .sendTrim]))),
      .leaves(disconnectRequest))
    #expect(machine.style == .oldstyle)
  }

  @Test("an oldstyle export is inspected and left with a disconnect")
  func oldstyleInspected() {
    play(
      .inspect(export: ""), .plain,
      .server(oldstyle(size: 4096, flags: 1)),
      .finishes(.inspected(ExportInfo(name: "", size: 4096, flags: .hasFlags))),
      .leaves(disconnectRequest))
  }

  @Test("upper flag bits of an oldstyle server are refused", arguments: [0x1_0001, 0x8000_0001] as [UInt32])
  func oldstyleFlags(flags: UInt32) {
    play(
      .attach(export: ""), .plain,
      .server(oldstyle(size: 4096, flags: flags)),
      .fails(.violation(.oldstyleFlags(flags))),
      .leaves([]))
  }

  @Test("an export name can't be had of an oldstyle server, and no more than its greeting is read")
  func oldstyleName() {
    let rest = oldstyle(size: 4096, flags: 1).dropFirst(16)
    play(
      .attach(export: "data"), .plain,
      .server(oldstyle(size: 4096, flags: 1)),
      .fails(.styleTooOld(.oldstyle, .exportName("data"))),
      .unread(Array(rest)),
      .leaves([]))
  }

  @Test("an oldstyle server can't list")
  func oldstyleList() {
    play(.list, .plain, .server(oldstyle(size: 4096, flags: 1)), .fails(.styleTooOld(.oldstyle, .list)), .leaves([]))
  }

  @Test("plain newstyle gets the name at once, no flag that was not offered, and 124 zeroes are read")
  func plainNewstyle() {
    let machine = play(
      .attach(export: "data"), .plain,
      .server(newstyle(0)),
      .client(clientFlags(0) + option(exportName, text("data"))),
      .leaves([]),
      .server(be(UInt64(1 << 20)) + be(UInt16(3))),
      .leaves([]),
      .server(zeroes + [1, 2, 3]),
      .unread([1, 2, 3]),
      .finishes(.transmission(ExportInfo(name: "data", size: 1 << 20, flags: [.hasFlags, .readOnly]))),
      .leaves(disconnectRequest))
    #expect(machine.style == .newstyle)
  }

  @Test("with NO_ZEROES agreed nothing follows size and flags")
  func noZeroes() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(2)),
      .client(clientFlags(2) + option(exportName, text("data"))),
      .server(be(UInt64(1 << 20)) + be(UInt16(1)) + [9]),
      .unread([9]),
      .finishes(.transmission(ExportInfo(name: "data", size: 1 << 20, flags: .hasFlags))))
  }

  @Test("a close after EXPORT_NAME is a refusal")
  func exportNameRefused() {
    let machine = play(
      .attach(export: "none"), .plain,
      .server(newstyle(0)),
      .client(clientFlags(0) + option(exportName, text("none"))),
      .closes(.exportNameRefused("none")),
      .leaves([]))
    #expect(machine.style == .newstyle)
    #expect(HandshakeError.exportNameRefused("none").nature == .final)
  }

  @Test("plain newstyle has no list, and no option is sent")
  func plainNewstyleList() {
    play(.list, .plain, .server(newstyle(0)), .fails(.styleTooOld(.newstyle, .list)), .leaves([]))
  }

  @Test("unknown handshake flags are neither minded nor echoed")
  func unknownFlags() {
    play(
      .list, .plain, .server(newstyle(0xfffd)), .client(clientFlags(1) + option(list)))
    play(
      .list, .plain, .server(newstyle(0xffff)), .client(clientFlags(3) + option(list)))
    play(
      .attach(export: ""), .plain, .server(newstyle(0xfffc)), .client(clientFlags(0) + option(exportName)))
  }

  @Test(
    "what does not begin like NBD is told apart at 16 bytes",
    arguments: [
      text("SSH-2.0-OpenSSH_9.2"), text("NBDMAGIC") + be(UInt64(1)), [UInt8](repeating: 0, count: 16),
      text("IHAVEOPTNBDMAGIC"),
    ])
  func notNBD(greeting: [UInt8]) {
    play(
      .attach(export: ""), .plain,
      .server(greeting), .fails(.notNBD(Array(greeting.prefix(16)))), .leaves([]))
  }

  @Test("a close before or within the greeting says so")
  func closedEarly() {
    play(.list, .plain, .closes(.closed(.greeting)))
    play(.list, .plain, .server(text("NBDMAGIC")), .closes(.closed(.greeting)))
    play(.list, .plain, .server(Array(newstyle(1).dropLast())), .closes(.closed(.greeting)))
    #expect(HandshakeError.closed(.greeting).nature == .passing)
  }

  @Test("a name that no option can carry ends before anything is sent")
  func unusableName() {
    for name in ["a\0b", String(repeating: "x", count: 4097)] {
      play(
        .attach(export: name), .plain, .server(newstyle(3)), .fails(.unusableExportName(name)), .leaves([]))
    }
  }

  @Test("a name of 4096 bytes is sent whole")
  func longestName() {
    let name = String(repeating: "é", count: 2048)
    play(
      .attach(export: name), .plain, .server(newstyle(1)), .client(clientFlags(1) + ask(go, name, infos: [3])))
  }

  @Test("an event that was not asked for is an error, not a trap")
  func outOfStep() {
    var machine = Handshake(goal: .list, security: .plain)
    #expect(throws: HandshakeError.outOfStep) { try machine.received([1]) }
    machine = Handshake(goal: .list, security: .plain)
    #expect(machine.start() == Handshake.Step(next: .receive(16)))
    #expect(throws: HandshakeError.outOfStep) { try machine.received(text("NBDMAGIC")) }
    machine = Handshake(goal: .list, security: .tls)
    _ = machine.start()
    #expect(throws: HandshakeError.outOfStep) { try machine.tlsEstablished() }
    #expect(throws: HandshakeError.outOfStep) { try machine.received(text("NBDMAGICIHAVEOPT")) }
  }
}
