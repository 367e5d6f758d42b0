package import NBDProtocol

/// A link to the server, named by whoever made it; never used twice.
package typealias LinkID = Int32

/// Where the engine keeps the payload of a write; the ledger only adds to the offset.
package struct PayloadLocation: Equatable, Sendable {
  package var segment: Int32
  /// Of the payload's first byte, in bytes from the start of the segment.
  package var offset: Int32

  package init(segment: Int32, offset: Int32) {
    self.segment = segment
    self.offset = offset
  }
}

/// What one link's server said of itself when the link was negotiated.
package struct ServerLimits: Equatable, Sendable {
  /// The longest READ or WRITE that it takes, in bytes; a multiple of its minimum block.
  package var maximumPayload: UInt32
  package var canFlush: Bool
  package var canFUA: Bool
  /// Several links see one cache, and a FLUSH on one covers all (proto.md, NBD_FLAG_CAN_MULTI_CONN).
  package var canMultiConn: Bool

  package init(
    maximumPayload: UInt32 = 32 << 20, canFlush: Bool = true, canFUA: Bool = true, canMultiConn: Bool = false
  ) {
    self.maximumPayload = maximumPayload
    self.canFlush = canFlush
    self.canFUA = canFUA
    self.canMultiConn = canMultiConn
  }
}

/// How much the ledger may hold.
package struct LedgerLimits: Equatable, Sendable {
  /// Payload of acknowledged, unflushed writes, in bytes; 0: none is kept. One write that is longer is kept alone.
  package var unflushedBytes: Int
  /// Acknowledged, unflushed writes, trims and zeroes.
  package var unflushedEntries: Int
  /// Taken from the kernel and unanswered.
  package var requests: Int
  /// Unanswered for so many nanoseconds: the link is said to be silent; `nil`: never.
  package var requestTimeout: UInt64?

  package init(unflushedBytes: Int, unflushedEntries: Int = 16_384, requests: Int = 256, requestTimeout: UInt64? = nil)
  {
    self.unflushedBytes = unflushedBytes
    self.unflushedEntries = unflushedEntries
    self.requests = requests
    self.requestTimeout = requestTimeout
  }
}

/// A request to put on a link.
package struct Transmission: Equatable, Sendable {
  package var link: LinkID
  /// The ledger's own, unique among all that is unanswered.
  package var cookie: UInt64
  package var command: CommandCode
  package var flags: CommandFlags
  package var offset: UInt64
  package var length: UInt32
  /// The `length` bytes that follow the header of a WRITE.
  package var payload: PayloadLocation?
  /// The payload is that of a whole request of the kernel: the header that came in front of it can be rewritten in
  /// place. `false`: it is a part, and what lies in front of it must not be touched; or there is no payload.
  package var isWhole: Bool

  /// What goes on the wire in front of the payload.
  package var header: Request {
    Request(command, flags: flags, cookie: cookie, offset: offset, length: length)
  }
}

/// What a reply must look like, known when its header is there and its payload is not.
package struct ExpectedReply: Equatable, Sendable {
  package enum Destination: Equatable, Sendable {
    /// Forwarded as it is, under the kernel's cookie.
    case kernel(cookie: UInt64)
    /// A part of a READ of `total` bytes, `offset` bytes from its start.
    case assembly(cookie: UInt64, offset: UInt32, total: UInt32)
    /// The kernel does not wait for it, or not for its payload.
    case nobody
  }

  package var command: CommandCode
  /// Payload that follows the header of a successful reply, in bytes; 0 for all but READ.
  package var payloadLength: UInt32
  package var destination: Destination
}

/// What becomes of a reply.
package enum Outcome: Equatable, Sendable {
  /// To the kernel with this error (0: success), and the payload of a successful READ with it.
  case answer(kernelCookie: UInt64, error: UInt32)
  /// The payload, where the reply has one, belongs into the assembly of that READ, at `offset` from its start.
  case part(kernelCookie: UInt64, offset: UInt32)
  /// As `part`, and it was the last: the assembly goes to the kernel, or only the error where it is not 0.
  case assembled(kernelCookie: UInt64, offset: UInt32, error: UInt32)
  /// Nobody waits for it; its payload, where it has one, is dropped.
  case swallowed
  /// NBD_ESHUTDOWN: nothing more is sent on this link; the engine ends it with `linkLost` soon. The request waits.
  case linkIsEnding
  /// No such request is out on this link: the engine ends it with `linkLost`.
  case violation
}

/// What the engine reports.
package enum LedgerEvent: Equatable, Sendable {
  /// No link was left, and there is one again: so many unanswered requests are sent again, and so many acknowledged
  /// writes, of so many bytes of payload, were. Not said where there was nothing to send again.
  case recovered(resent: Int, replayed: Int, bytes: Int)
  /// So many requests were out on a link that was lost or goes, and are sent again.
  case resent(count: Int)
  /// A server refused what another had acknowledged; FLUSH and FUA answer EIO once. Told when the replay ends.
  case dataLost(LostRange)
  /// A FLUSH of our own failed; the kernel's next FLUSH and FUA answer EIO.
  case flushFailed(error: UInt32)
  /// A request of the kernel waits since that time, for 30 s and more.
  case stalled(since: UInt64)
  /// None waits so long any more.
  case unstalled
  /// A request is unanswered on this link for the request-timeout; said once until `speaking`.
  case silent(LinkID)
  /// No request on this link, which was silent, is unanswered that long any more.
  case speaking(LinkID)
}
