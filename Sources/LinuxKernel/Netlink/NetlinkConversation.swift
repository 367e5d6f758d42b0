import CLinuxNBD
import Glibc

/// One request and what the kernel answers to it, until its acknowledgement. Bytes in, no I/O.
package struct NetlinkConversation: Equatable, Sendable {
  package let sequence: UInt32
  /// The answers so far, less the acknowledgement.
  package private(set) var replies: [NetlinkMessage] = []

  /// No answer of the families used here has more messages.
  static let mostReplies = 1024

  package init(sequence: UInt32) { self.sequence = sequence }

  /// Takes a datagram: the acknowledgement when it ends the conversation. Messages with another sequence number answer
  /// something else and are dropped.
  package mutating func receive(_ datagram: [UInt8]) throws(NetlinkError) -> NetlinkAcknowledgement? {
    for message in try NetlinkMessage.parse(datagram) where message.sequence == sequence {
      if let end = try NetlinkAcknowledgement(message) { return end }
      switch Int32(message.type) {
      case NLMSG_NOOP: continue
      case NLMSG_OVERRUN: throw .system(call: "recv", code: ENOBUFS, text: nil)
      default:
        guard replies.count < NetlinkConversation.mostReplies else { throw .malformed("an answer without end") }
        replies.append(message)
      }
    }
    return nil
  }
}
