extension HandshakeError {
  /// One line for operators, without a full stop; all text from the server is quoted, escaped and bounded.
  package var message: String {
    switch self {
    case .notNBD(let greeting):
      "this is not an NBD server: it began with \(quoted(String(decoding: greeting, as: UTF8.self)))"
    case .styleTooOld(let style, .exportName(let name)):
      "the server speaks \(style), which has no export names (wanted: \(quoted(name)))"
    case .styleTooOld(let style, .tls): "the server speaks \(style), which has no TLS"
    case .styleTooOld(let style, .list): "the server speaks \(style), which can't list exports"
    case .refused(let option, let reply, let text):
      Self.refusal(option, reply) + (text.isEmpty ? "" : ": \(quoted(text))")
    case .exportNameRefused(let name):
      "the server refused the export \(quoted(name)) (it closed without a message, as NBD_OPT_EXPORT_NAME has it)"
    case .exportNotListed(let name, let offered, let count):
      "the server has no export \(quoted(name)); \(Self.offer(offered, count))"
    case .goUnsupportedUnderTLS: "the server has no NBD_OPT_GO, without which an export is not opened under TLS"
    case .unusableExportName(let name):
      name.utf8.count > Handshake.maximumStringLength
        ? "the export name is longer than \(Handshake.maximumStringLength) bytes"
        : "the export name \(quoted(name)) contains a NUL"
    case .closed(.greeting): "the server closed the connection before it had greeted"
    case .closed(.reply(let option)): "the server closed the connection instead of answering \(option)"
    case .closed(.tls): "the server closed the connection during the TLS handshake"
    case .closed(.transmission): "the server closed the connection right after negotiation"
    case .violation(let violation): "the server broke the protocol: \(violation.message)"
    case .outOfStep: "negotiation got out of step with its connection (a defect of nbdattach)"
    }
  }

  /// What the operator can do, one line; `nil` where there is nothing but to wait.
  package var hint: String? {
    switch self {
    case .notNBD: "check host and port; NBD's own port is 10809"
    case .styleTooOld(_, .exportName): "leave the export name out of the URI, or update the server"
    case .styleTooOld(_, .tls), .goUnsupportedUnderTLS: "update the server; TLS is never given up silently"
    case .styleTooOld(_, .list): "update the server, or name the export"
    case .refused(.startTLS, .shutdown, _): nil
    case .refused(.startTLS, _, _): "set up TLS on the server, or use nbd:// if it may go in clear"
    case .refused(_, .tlsRequired, _): "use nbds://: the server wants TLS"
    case .refused(_, .unknown, _), .exportNotListed: "`nbdattach list` shows what the server offers"
    case .refused(_, .policy, _): "the server's own configuration decides who may use the export"
    case .refused, .unusableExportName, .violation, .outOfStep: nil
    case .exportNameRefused: "check the export name, and on the server who may use it and whether it wants TLS"
    case .closed(.greeting): "the server may not accept this client's address, or have too many clients"
    case .closed: nil
    }
  }

  private static func refusal(_ option: OptionCode, _ reply: OptionReplyCode) -> String {
    switch reply {
    case _ where option == .startTLS: "the server refused TLS (\(reply))"
    case .policy: "the server's policy forbids it (\(option): \(reply))"
    case .tlsRequired: "the server requires TLS (\(option): \(reply))"
    case .unknown: "the server has no such export (\(option): \(reply))"
    case .shutdown: "the server is shutting down (\(option): \(reply))"
    case .unsupported: "the server does not support \(option) (\(reply))"
    case .platform: "the server's platform does not support \(option) (\(reply))"
    default: "the server refused \(option) (\(reply))"
    }
  }

  private static func offer(_ names: [String], _ count: Int) -> String {
    guard !names.isEmpty else { return "it lists none" }
    let more = count - names.count
    let list = names.map { quoted($0, limit: 64) }.joined(separator: ", ")
    return "it offers \(list)" + (more > 0 ? " and \(more) more" : "")
  }
}

extension HandshakeError.Violation {
  fileprivate var message: String {
    switch self {
    case .replyMagic(let magic): "an option reply began with 0x\(String(magic, radix: 16))"
    case .echo(let sent, let received):
      "the reply to \(sent) names \(OptionCode(rawValue: received)?.description ?? "option \(received)")"
    case .reply(let option, let reply): "\(reply) is no answer to \(option)"
    case .replyLength(let reply, let length): "\(reply) with \(length) bytes"
    case .infoLength(let info, let length): "\(info) with \(length) bytes"
    case .exportName: "an export name that is not UTF-8 without NUL"
    case .exportNameLength(let length): "an export name of \(length) bytes, more than fits or is allowed"
    case .noExportInfo(let option): "\(option) was acknowledged without NBD_INFO_EXPORT"
    case .blockSizes(let minimum, let preferred, let maximumPayload):
      "impossible block sizes (minimum \(minimum), preferred \(preferred), maximum \(maximumPayload))"
    case .oldstyleFlags(let flags): "oldstyle flags 0x\(String(flags, radix: 16)), of which the upper half must be 0"
    case .tooManyReplies(let option, let limit): "more than \(limit) replies to \(option)"
    case .tooMuchData: "more than \(Handshake.maximumReplyData >> 20) MiB of option replies"
    }
  }
}
