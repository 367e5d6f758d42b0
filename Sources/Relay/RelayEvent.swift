package import RelayModel

/// What a relay tells, on its own thread.
package enum RelayEvent: Equatable, Sendable {
  /// Why a link is no longer one.
  package enum Loss: Equatable, Sendable {
    /// The server closed it in an orderly way.
    case closed
    /// An errno of recv(2) or send(2), such as ECONNRESET.
    case failed(Int32)
    /// The stream under the protocol broke it: what TLS says, as a sentence's end.
    case insecure(String)
    /// The server answered a request with NBD_ESHUTDOWN.
    case shuttingDown
    /// The server broke the protocol; the text says how, in the words of proto.md.
    case violation(String)
    /// It was silent, another stands in its place, and the fence-timeout has passed or it has nothing left to answer.
    case superseded
  }

  /// Nothing goes out on the link any more, though its server may still carry out what it has. Told once.
  /// `remaining`: how many links are left that take requests. With 0, I/O is held until one is added.
  case linkLost(LinkID, Loss, remaining: Int)
  /// The link's socket is closed: what its server has not carried out until now does not count any more.
  case linkClosed(LinkID)
  /// There are links, and requests, and nothing is sent because former links are not closed. Told once.
  case awaitsFormerLinks
  /// All links of the former process are closed by their servers, or have had the fence-timeout for it.
  case formerLinksClosed
  /// A request on the link has had no answer for the request-timeout. Told once for each silence, which ends by
  /// `speaking` or with the link: `supersede` it when another link stands.
  case silent(LinkID)
  /// That link's server answers in time again, before the link was superseded.
  case speaking(LinkID)
  /// The oldest request has waited this long, in whole seconds; told once for each stall.
  case stalled(seconds: Int)
  /// What was stalled goes on.
  case flowing
  /// After the last link was lost, when there is one again: requests that the kernel still waits for, which go out again,
  /// and acknowledged writes, which did. Told once for each outage, and not when both are 0.
  case recovered(resent: Int, replayed: Int, replayedBytes: Int)
  /// A server refused acknowledged writes that were sent again: the kernel believes these bytes written.
  case dataLost(LostRange)
  /// A FLUSH failed, so that the kernel will be told of it at its next FLUSH or FUA.
  case flushFailed(error: UInt32)
  /// What was inherited is on a server, and nobody else can inherit it any more.
  case legacySpent
  /// What was inherited could not be taken over, and is not sent again; the kernel will be told of it at its next FLUSH or
  /// FUA.
  case legacyLost(bytes: Int, reason: String)
  /// The kernel has closed its end, or has sent what no kernel sends (`problem`). `makeKernelEnd` gives it a new one.
  case kernelEnded(disconnectRequested: Bool, problem: String?)
}
