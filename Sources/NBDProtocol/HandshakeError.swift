/// Why a handshake did not reach its goal, with the facts; `message` is its one line for operators.
package enum HandshakeError: Error, Equatable, Sendable {
  /// The greeting is not NBD's; its bytes.
  case notNBD([UInt8])
  /// The server speaks a style in which what was wanted does not exist.
  case styleTooOld(Handshake.Style, Requirement)
  /// An error reply, with the server's text (at most 4096 bytes, as sent: quote it); "" where there is none.
  case refused(OptionCode, OptionReplyCode, text: String)
  /// The server closed after NBD_OPT_EXPORT_NAME, which is the only way it has to refuse.
  case exportNameRefused(String)
  /// The server has no NBD_OPT_GO, and its list (the first few names, and how many there are) is without the name.
  case exportNotListed(String, offered: [String], count: Int)
  /// Under TLS only NBD_OPT_GO is used, and the server does not have it.
  case goUnsupportedUnderTLS
  /// The wanted name has a NUL or more than 4096 bytes, which no option can carry.
  case unusableExportName(String)
  /// The server closed the connection in the middle.
  case closed(Stage)
  /// The server broke a rule of the protocol, or a bound of this client.
  case violation(Violation)
  /// The machine was given an event that it did not ask for; a defect of its caller.
  case outOfStep

  /// What an old style lacks.
  package enum Requirement: Equatable, Sendable {
    case exportName(String)
    case tls
    case list
  }

  /// Where the server was when it closed.
  package enum Stage: Equatable, Sendable {
    case greeting
    case reply(OptionCode)
    case tls
    case transmission
  }

  /// A broken rule, with what was seen.
  package enum Violation: Equatable, Sendable {
    case replyMagic(UInt64)
    /// The reply is to another option than the one that was sent.
    case echo(sent: OptionCode, received: UInt32)
    /// Not a reply that the option can have.
    case reply(OptionCode, OptionReplyCode)
    /// In bytes.
    case replyLength(OptionReplyCode, UInt32)
    /// In bytes, the two of the type among them.
    case infoLength(InfoCode, UInt32)
    /// Not UTF-8, or with a NUL.
    case exportName
    /// A name longer than its reply, or than 4096 bytes.
    case exportNameLength(UInt32)
    /// NBD_REP_ACK without NBD_INFO_EXPORT before it.
    case noExportInfo(OptionCode)
    case blockSizes(minimum: UInt32, preferred: UInt32, maximumPayload: UInt32)
    /// Upper bits of the flags of an oldstyle server, which must be 0.
    case oldstyleFlags(UInt32)
    /// More replies to one option than `Handshake.maximumInfos` or `Handshake.maximumEntries`.
    case tooManyReplies(OptionCode, limit: Int)
    /// More data in option replies than `Handshake.maximumReplyData`.
    case tooMuchData
  }

  /// What to make of it.
  package enum Nature: Equatable, Sendable {
    /// The server's last word: another try gives the same until something is changed on either side.
    case final
    /// It may well be different next time.
    case passing
    /// The server can't be relied on.
    case violation
  }

  /// Whether another try makes sense.
  package var nature: Nature {
    switch self {
    case .notNBD, .violation, .outOfStep: .violation
    case .refused(_, .shutdown, text: _), .closed: .passing
    case .styleTooOld, .refused, .exportNameRefused, .exportNotListed, .goUnsupportedUnderTLS, .unusableExportName:
      .final
    }
  }

  /// Whether a server in fixed newstyle is still haggling after it, so that NBD_OPT_ABORT is the way to leave.
  var endsWhileHaggling: Bool {
    switch self {
    case .refused, .exportNotListed, .goUnsupportedUnderTLS: true
    case .notNBD, .styleTooOld, .exportNameRefused, .unusableExportName, .closed, .violation, .outOfStep: false
    }
  }
}
