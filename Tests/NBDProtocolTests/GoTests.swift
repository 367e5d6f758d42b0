import NBDProtocol
import Testing

@Suite("NBD_OPT_GO and NBD_OPT_INFO")
struct GoTests {
  @Test("GO asks for block sizes, and ends in transmission without reading further")
  func attach() {
    var export = ExportInfo(name: "data", size: 10 << 30, flags: [.hasFlags, .sendFlush, .sendFUA, .canMultiConn])
    export.blockSizes = BlockSizes(minimum: 512, preferred: 4096, maximumPayload: 32 << 20)
    let machine = play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)),
      .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(exportInfo(size: 10 << 30, flags: 0x010d)),
      .server(blockSizeInfo(512, 4096, 32 << 20)),
      .server(ack(go) + zeroes),
      .unread(zeroes),
      .finishes(.transmission(export)),
      .leaves(disconnectRequest))
    #expect(machine.style == .fixedNewstyle)
  }

  @Test("infos may come in any order, unknown ones of any length are ignored, the last of a kind counts")
  func anyOrder() {
    var export = ExportInfo(name: "", size: 4096, flags: .hasFlags)
    export.blockSizes = BlockSizes(minimum: 1, preferred: 512, maximumPayload: 1 << 20)
    play(
      .attach(export: ""), .plain,
      .server(newstyle(1)),
      .client(clientFlags(1) + ask(go, "", infos: [3])),
      .server(reply(to: go, 3, be(UInt16(77)))),
      .server(blockSizeInfo(1, 512, 1 << 20)),
      .server(reply(to: go, 3, be(UInt16(0xffff)) + [UInt8](repeating: 7, count: 100_000))),
      .server(exportInfo(size: 1, flags: 3)),
      .server(exportInfo(size: 4096, flags: 1)),
      .server(ack(go)),
      .finishes(.transmission(export)))
  }

  @Test("INFO asks for name and description too, and is left by ABORT")
  func inspect() {
    var export = ExportInfo(name: "", size: 4096, flags: .hasFlags)
    export.canonicalName = "données"
    export.description = "scratch \u{1b}[2J"
    play(
      .inspect(export: ""), .plain,
      .server(newstyle(3)),
      .client(clientFlags(3) + ask(info, "", infos: [1, 2, 3])),
      .leaves(option(abort)),
      .server(nameInfo(to: info, "données")),
      .server(exportInfo(to: info, size: 4096, flags: 1)),
      .server(descriptionInfo(to: info, "scratch \u{1b}[2J")),
      .server(ack(info)),
      .finishes(.inspected(export)),
      .leaves(option(abort)))
  }

  @Test("an ACK without an EXPORT info is a violation")
  func noExport() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(1)), .client(clientFlags(1) + ask(go, "data", infos: [3])),
      .server(blockSizeInfo(1, 4096, 1 << 20)), .server(ack(go)),
      .fails(.violation(.noExportInfo(.go))), .leaves([]))
    play(
      .inspect(export: "data"), .plain,
      .server(newstyle(1)), .client(clientFlags(1) + ask(info, "data", infos: [1, 2, 3])), .server(ack(info)),
      .fails(.violation(.noExportInfo(.info))), .leaves([]))
  }

  @Test(
    "every error but UNSUP is the server's final answer, with its text, and is left by ABORT",
    arguments: [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x7fff_ffff] as [UInt32])
  func finalAnswers(number: UInt32) {
    let code = OptionReplyCode(rawValue: 0x8000_0000 | number)
    let refusal = HandshakeError.refused(.go, code, text: "ask again\nnever")
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(errorReply(to: go, number, "ask again\nnever")),
      .fails(refusal), .leaves(option(abort)))
    #expect(refusal.nature == (number == 7 ? .passing : .final))
  }

  @Test("an error may follow infos")
  func errorAfterInfos() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(blockSizeInfo(4096, 4096, 1 << 20)), .server(errorReply(to: go, 8)),
      .fails(.refused(.go, .blockSizeRequired, text: "")), .leaves(option(abort)))
  }

  @Test("a close instead of an answer names the option, and GO under way is left in silence")
  func closed() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .leaves([]),
      .server(Array(ack(go).dropLast())),
      .closes(.closed(.reply(.go))), .leaves([]))
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(Array(exportInfo(size: 1, flags: 1).dropLast())),
      .closes(.closed(.reply(.go))))
  }

  @Test(
    "block sizes that contradict themselves are refused",
    arguments: [
      (0, 4096, 1 << 20), (3, 4096, 1 << 20), (1 << 17, 1 << 17, 1 << 20), (512, 0, 1 << 20), (512, 768, 1 << 20),
      (4096, 512, 1 << 20), (4096, 4096, 512), (1, 4096, 512), (1, 4096, 0),
    ] as [(UInt32, UInt32, UInt32)])
  func impossibleBlockSizes(minimum: UInt32, preferred: UInt32, maximum: UInt32) {
    play(
      .attach(export: ""), .plain,
      .server(newstyle(1)), .client(clientFlags(1) + ask(go, "", infos: [3])),
      .server(blockSizeInfo(minimum, preferred, maximum)), .server(exportInfo(size: 1 << 20, flags: 1)),
      .server(ack(go)),
      .fails(.violation(.blockSizes(minimum: minimum, preferred: preferred, maximumPayload: maximum))), .leaves([]))
  }

  @Test(
    "the limits of what block sizes may be are accepted",
    arguments: [
      (1, 512, 512, 512), (65536, 65536, .max, 65536), (1, 1 << 31, .max, 1 << 31), (1, 1, 1 << 20, 512),
    ] as [(UInt32, UInt32, UInt32, UInt32)])
  func possibleBlockSizes(minimum: UInt32, preferred: UInt32, maximum: UInt32, taken: UInt32) {
    var export = ExportInfo(name: "", size: 1 << 40, flags: .hasFlags)
    export.blockSizes = BlockSizes(minimum: minimum, preferred: taken, maximumPayload: maximum)
    play(
      .attach(export: ""), .plain,
      .server(newstyle(1)), .client(clientFlags(1) + ask(go, "", infos: [3])),
      .server(exportInfo(size: 1 << 40, flags: 1)), .server(blockSizeInfo(minimum, preferred, maximum)),
      .server(ack(go)),
      .finishes(.transmission(export)))
  }

  @Test("a maximum below the preferred size passes where the export is no larger")
  func smallExport() {
    #expect(BlockSizes(announced: 1, 4096, 1024, exportSize: 1024) != nil)
    #expect(BlockSizes(announced: 1, 4096, 1024, exportSize: 1025) == nil)
  }
}
