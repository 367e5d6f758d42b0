import NBDProtocol
import Testing

@Suite("Fallback for servers without GO")
struct OlderServerTests {
  private let export = ExportInfo(name: "data", size: 1 << 20, flags: .hasFlags)

  @Test("UNSUP leads over LIST to EXPORT_NAME")
  func fallback() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(errorReply(to: go, 1, "unknown option")), .client(option(list)),
      .leaves(option(abort)),
      .server(entry("other")), .server(entry("data", "the data")), .server(ack(list)),
      .client(option(exportName, text("data"))),
      .leaves([]),
      .server(be(UInt64(1 << 20)) + be(UInt16(1))),
      .finishes(.transmission(export)))
  }

  @Test("without NO_ZEROES the fallback reads 124 bytes more")
  func fallbackWithZeroes() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(1)), .client(clientFlags(1) + ask(go, "data", infos: [3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(entry("data")), .server(ack(list)), .client(option(exportName, text("data"))),
      .server(be(UInt64(1 << 20)) + be(UInt16(1)) + zeroes + [5]), .unread([5]),
      .finishes(.transmission(export)))
  }

  @Test("a name that the list lacks is never asked for, and the error says what there is")
  func notListed() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(entry("a")), .server(entry("b")), .server(ack(list)),
      .fails(.exportNotListed("data", offered: ["a", "b"], count: 2)), .leaves(option(abort)))
  }

  @Test("of a long list the error carries the first ten names")
  func notListedAmongMany() {
    let names = (1...30).map { "disk\($0)" }
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(names.flatMap { entry($0) }), .server(ack(list)),
      .fails(.exportNotListed("data", offered: Array(names.prefix(10)), count: 30)))
  }

  @Test("names are compared by bytes, not by Unicode equivalence")
  func normalization() {
    play(
      .attach(export: "\u{e9}"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "\u{e9}", infos: [3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(entry("e\u{301}")), .server(ack(list)),
      .fails(.exportNotListed("\u{e9}", offered: ["e\u{301}"], count: 1)))
  }

  @Test("the default export need not be in the list")
  func defaultExport() {
    play(
      .attach(export: ""), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "", infos: [3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(entry("a")), .server(ack(list)), .client(option(exportName)))
  }

  @Test("a server that does not list is asked for the name all the same", arguments: [1, 2, 3, 4, 9] as [UInt32])
  func listRefused(number: UInt32) {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(errorReply(to: list, number, "no")), .client(option(exportName, text("data"))),
      .closes(.exportNameRefused("data")))
  }

  @Test("TLS_REQD and SHUTDOWN to the list are final", arguments: [5, 7] as [UInt32])
  func listFinal(number: UInt32) {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(errorReply(to: list, number)),
      .fails(.refused(.list, OptionReplyCode(rawValue: 0x8000_0000 | number), text: "")), .leaves(option(abort)))
  }

  @Test("an export is inspected by GO where there is no INFO, and left by a disconnect")
  func inspectByGo() {
    play(
      .inspect(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(info, "data", infos: [1, 2, 3])),
      .server(errorReply(to: info, 1)), .client(ask(go, "data", infos: [1, 2, 3])),
      .server(exportInfo(size: 1 << 20, flags: 1) + ack(go)),
      .finishes(.inspected(export)), .leaves(disconnectRequest))
  }

  @Test("an export is inspected by name where there is neither")
  func inspectByName() {
    play(
      .inspect(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(info, "data", infos: [1, 2, 3])),
      .server(errorReply(to: info, 1)), .client(ask(go, "data", infos: [1, 2, 3])),
      .server(errorReply(to: go, 1)), .client(option(list)),
      .server(entry("data") + ack(list)), .client(option(exportName, text("data"))),
      .server(be(UInt64(1 << 20)) + be(UInt16(1))),
      .finishes(.inspected(export)), .leaves(disconnectRequest))
  }

  @Test("what NBD_OPT_GO said before its UNSUP is forgotten")
  func infosBeforeUnsup() {
    play(
      .attach(export: "data"), .plain,
      .server(newstyle(3)), .client(clientFlags(3) + ask(go, "data", infos: [3])),
      .server(blockSizeInfo(4096, 4096, 4096)), .server(errorReply(to: go, 1)), .client(option(list)),
      .server(ack(list)), .fails(.exportNotListed("data", offered: [], count: 0)))
  }
}
