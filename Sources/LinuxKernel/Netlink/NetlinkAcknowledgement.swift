import CLinuxNBD

/// How the kernel ended a request: NLMSG_ERROR, which also says success, or the NLMSG_DONE of several parts.
package struct NetlinkAcknowledgement: Equatable, Sendable {
  /// An errno, 0 for success.
  package let code: Int32
  /// The kernel's explanation, or its warning beside a success.
  package let text: String?
  /// Where in the request the attribute is that the kernel objects to, in bytes from the start of its header.
  package let offset: Int?

  /// `nil` for a message that is not the end of anything.
  package init?(_ message: NetlinkMessage) throws(NetlinkError) {
    switch Int32(message.type) {
    case NLMSG_ERROR:
      // struct nlmsgerr: the error, then the header of the request.
      guard let error = message.payload.native(Int32.self, at: 0),
        let requestLength = message.payload.native(UInt32.self, at: 4)
      else { throw .malformed("an error message cut short") }
      // The request follows whole where it was not capped; the kernel aligns its end.
      let isCapped = Int32(message.flags) & NLM_F_CAPPED != 0
      let wholeRequest = max(NetlinkMessage.headerSize, isCapped ? 0 : Int(requestLength))
      try self.init(error, message.flags, message.payload.dropFirst(4 + NetlinkMessage.aligned(wholeRequest)))
    case NLMSG_DONE:
      // netlink_dump_done: the error, then the same attributes; older kernels may leave both out.
      try self.init(message.payload.native(Int32.self, at: 0) ?? 0, message.flags, message.payload.dropFirst(4))
    default: return nil
    }
  }

  private init(_ error: Int32, _ flags: UInt16, _ rest: ArraySlice<UInt8>) throws(NetlinkError) {
    let attributes = Int32(flags) & NLM_F_ACK_TLVS != 0 ? try NetlinkAttribute.parse(rest) : []
    code = Int32(clamping: error.magnitude)
    text = attributes.first(Int(NLMSGERR_ATTR_MSG.rawValue))?.text
    offset = try attributes.first(Int(NLMSGERR_ATTR_OFFS.rawValue)).map { attribute throws(NetlinkError) in
      Int(try attribute.number(UInt32.self))
    }
  }
}
