import CLinuxNBD
import Glibc

/// Requests and answers over a channel of its own, one after the other. Its calls can hang in the kernel.
struct NetlinkLine {
  private let channel: any NetlinkChannel
  private var sequence: UInt32 = 0

  /// Datagrams that are not the answer: more than any kernel sends to a socket that joined no group.
  private static let mostStrays = 64

  init(_ open: NBDNetlink.Opening) throws(NetlinkError) {
    do { channel = try open() } catch {
      switch error.code {
      case EPROTONOSUPPORT: throw .unavailable("the kernel has no generic netlink")
      case EAFNOSUPPORT: throw .unavailable("this process may not use netlink (\(error))")
      default: throw NetlinkError(error)
      }
    }
  }

  /// The family as it is now. `unavailable` when the kernel has none of that name.
  mutating func family(_ name: String) throws(NetlinkError) -> GenericNetlinkFamily {
    let replies: [NetlinkMessage]
    do {
      replies = try exchange("CTRL_CMD_GETFAMILY") { GenericNetlinkFamily.request(name: name, sequence: $0) }
    } catch {
      guard error.code == ENOENT else { throw error }
      throw .unavailable("the kernel has no \(name) family: module not loaded")
    }
    for reply in replies {
      if case .present(let family) = try GenericNetlinkFamily.announcement(in: reply), family.name == name {
        return family
      }
    }
    throw .malformed("CTRL_CMD_GETFAMILY without an answer")
  }

  /// Performs a request of the nbd family, which is looked up first: a module loaded again has another id.
  mutating func perform(_ request: NBDRequest) throws(NetlinkError) -> [GenericNetlinkMessage] {
    let family = try family(NBD_GENL_FAMILY_NAME)
    do { return try perform(request, family: family.id) } catch {
      // ENOENT is genl_rcv_msg's answer to an id that it doesn't know, and then nothing was done.
      guard error.code == ENOENT else { throw error }
      let newFamily = try self.family(NBD_GENL_FAMILY_NAME)
      guard newFamily.id != family.id else { throw error }
      return try perform(request, family: newFamily.id)
    }
  }

  private mutating func perform(
    _ request: NBDRequest, family: UInt16
  ) throws(NetlinkError) -> [GenericNetlinkMessage] {
    let replies = try exchange(request.name) { request.message(family: family, sequence: $0) }
    var answers: [GenericNetlinkMessage] = []
    for reply in replies where reply.type == family { answers.append(try GenericNetlinkMessage(reply)) }
    return answers
  }

  /// Sends a request and reads up to its acknowledgement; throws what that says when it is an error.
  private mutating func exchange(
    _ call: String, _ request: (_ sequence: UInt32) -> NetlinkMessage?
  ) throws(NetlinkError) -> [NetlinkMessage] {
    sequence += 1
    guard let message = request(sequence) else { throw .system(call: call, code: EINVAL, text: nil) }
    var conversation = NetlinkConversation(sequence: sequence)
    do { try channel.send(message.bytes) } catch { throw NetlinkError(error) }
    var strays = 0
    while true {
      let datagram: [UInt8]?
      do { datagram = try channel.receive() } catch { throw NetlinkError(error) }
      if let end = try datagram.flatMap({ bytes throws(NetlinkError) in try conversation.receive(bytes) }) {
        guard end.code == 0 else { throw .system(call: call, code: end.code, text: end.text) }
        return conversation.replies
      }
      strays += 1
      guard strays < NetlinkLine.mostStrays else { throw .malformed("\(call) is never acknowledged") }
    }
  }
}
