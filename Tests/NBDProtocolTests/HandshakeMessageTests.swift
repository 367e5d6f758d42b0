import NBDProtocol
import Testing

@Suite("Messages and quoting")
struct HandshakeMessageTests {
  @Test("text from a server is quoted, and can't forge a line")
  func forged() {
    let error = HandshakeError.refused(.go, .policy, text: "no\"\n<0>kernel: panic\u{1b}[31m")
    #expect(
      error.message
        == #"the server's policy forbids it (NBD_OPT_GO: NBD_REP_ERR_POLICY): "no\"\n<0>kernel: panic\u{1b}[31m""#)
  }

  @Test("what a server offers is named, bounded, with a count of the rest")
  func offered() {
    let some = HandshakeError.exportNotListed("x", offered: ["a", "b\n"], count: 7)
    #expect(some.message == #"the server has no export "x"; it offers "a", "b\n" and 5 more"#)
    #expect(HandshakeError.exportNotListed("x", offered: [], count: 0).message.hasSuffix("it lists none"))
  }

  @Test("unknown numbers are shown as such")
  func unknownNumbers() {
    #expect(
      HandshakeError.refused(.info, OptionReplyCode(rawValue: 0x8000_002a), text: "").message
        == "the server refused NBD_OPT_INFO (reply type 0x8000002a)")
    #expect(
      HandshakeError.violation(.echo(sent: .go, received: 4711)).message
        == "the server broke the protocol: the reply to NBD_OPT_GO names option 4711")
  }

  @Test("controls, separators, direction marks and private code points are escaped")
  func escapes() {
    #expect(quoted("plain – naïve 日本") == "\"plain – naïve 日本\"")
    #expect(quoted("") == "\"\"")
    #expect(quoted("a\\b") == #""a\\b""#)
    #expect(quoted("\t\r\n") == #""\t\r\n""#)
    #expect(quoted("\0\u{7f}\u{9b}") == #""\u{0}\u{7f}\u{9b}""#)
    #expect(quoted("\u{2028}\u{2029}") == #""\u{2028}\u{2029}""#)
    #expect(quoted("\u{202e}txt\u{200b}") == #""\u{202e}txt\u{200b}""#)
    #expect(quoted("\u{e000}\u{feff}") == #""\u{e000}\u{feff}""#)
  }

  @Test("a long text ends in an ellipsis, counted in scalars and not in clusters")
  func bounded() {
    #expect(quoted("abc", limit: 3) == "\"abc\"")
    #expect(quoted("abcd", limit: 3) == "\"abc…\"")
    let stacked = "a" + String(repeating: "\u{301}", count: 100_000)
    #expect(quoted(stacked).unicodeScalars.count == 203)
  }

  @Test("every error has one line, and what passes by itself has no hint to change the configuration")
  func lines() {
    let errors: [HandshakeError] = [
      .notNBD(text("SSH-2.0-OpenSSH\n")), .styleTooOld(.oldstyle, .exportName("a\nb")), .styleTooOld(.newstyle, .tls),
      .styleTooOld(.newstyle, .list), .refused(.startTLS, .unsupported, text: ""), .refused(.go, .shutdown, text: "x"),
      .refused(.go, .unknown, text: ""), .refused(.go, .tlsRequired, text: ""), .exportNameRefused("a\nb"),
      .exportNotListed("a", offered: ["b\n"], count: 1), .goUnsupportedUnderTLS, .unusableExportName("a\0"),
      .closed(.greeting), .closed(.reply(.go)), .closed(.tls), .closed(.transmission),
      .violation(.replyMagic(1)), .violation(.reply(.go, .server)), .violation(.replyLength(.ack, 1)),
      .violation(.infoLength(.export, 1)), .violation(.exportName), .violation(.exportNameLength(5000)),
      .violation(.noExportInfo(.go)), .violation(.blockSizes(minimum: 3, preferred: 4, maximumPayload: 5)),
      .violation(.oldstyleFlags(1 << 16)), .violation(.tooManyReplies(.list, limit: 1)), .violation(.tooMuchData),
      .outOfStep,
    ]
    for error in errors {
      #expect(!error.message.isEmpty && !error.message.contains("\n") && !error.message.hasSuffix("."))
    }
    #expect(Set(errors.map(\.message)).count == errors.count)
    #expect(HandshakeError.refused(.startTLS, .shutdown, text: "").hint == nil)
  }

  @Test("the nature of an error tells the passing from the final and the broken")
  func nature() {
    #expect(HandshakeError.refused(.list, .shutdown, text: "").nature == .passing)
    #expect(HandshakeError.closed(.reply(.go)).nature == .passing)
    #expect(HandshakeError.refused(.go, .policy, text: "").nature == .final)
    #expect(HandshakeError.styleTooOld(.oldstyle, .tls).nature == .final)
    #expect(HandshakeError.exportNotListed("a", offered: [], count: 0).nature == .final)
    #expect(HandshakeError.violation(.tooMuchData).nature == .violation)
    #expect(HandshakeError.notNBD([]).nature == .violation)
  }
}
