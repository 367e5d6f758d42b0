import Glibc
import Synchronization

@testable import LinuxKernel

/// A kernel with an nbd family that answers as a test says. Its channels are good for one call each.
final class ScriptedKernel: Sendable {
  /// What the nbd family does with a request: the datagrams that it answers, where the id is the family's of now.
  typealias Script =
    @Sendable (_ request: GenericNetlinkMessage, _ sequence: UInt32) throws(SystemCallError) ->
    [[UInt8]]

  private struct State {
    var family: UInt16?
    var afterNextLookUp: UInt16?
    var requests: [GenericNetlinkMessage] = []
  }

  private let state: Mutex<State>
  private let script: Script

  init(family: UInt16?, script: @escaping Script) {
    state = Mutex(State(family: family))
    self.script = script
  }

  /// What reached the nbd family, or was sent to an id that it no longer has.
  var requests: [GenericNetlinkMessage] { state.withLock { $0.requests } }

  /// The module is loaded again right after the next look-up.
  func reload(afterNextLookUpAs family: UInt16) { state.withLock { $0.afterNextLookUp = family } }

  func netlink(threads: Int = 2) -> NBDNetlink {
    NBDNetlink(pool: BlockingThreadPool(name: "test", threads: threads)) { () throws(SystemCallError) in
      Channel(kernel: self)
    }
  }

  fileprivate func answer(_ datagram: [UInt8]) throws(SystemCallError) -> [[UInt8]] {
    guard let message = try? NetlinkMessage.parse(datagram).first, let request = try? GenericNetlinkMessage(message)
    else { throw SystemCallError("sendto", EINVAL) }
    if message.type == GenericNetlinkFamily.controller {
      let family = state.withLock { state in
        defer { state.family = state.afterNextLookUp.take() ?? state.family }
        return state.family
      }
      guard let family else { return [acknowledgement(ENOENT, message.sequence)] }
      return [description(of: family, message.sequence), acknowledgement(0, message.sequence)]
    }
    let isKnown = state.withLock { state in
      state.requests.append(request)
      return state.family == message.type
    }
    return isKnown ? try script(request, message.sequence) : [acknowledgement(ENOENT, message.sequence)]
  }

  private func description(of family: UInt16, _ sequence: UInt32) -> [UInt8] {
    var attributes = NetlinkAttributes()
    attributes.add(2, "nbd")
    attributes.add(1, family)
    return NetlinkMessage(type: 16, flags: 0, sequence: sequence, payload: ([1, 2, 0, 0] + attributes.bytes)[...]).bytes
  }
}

private final class Channel: NetlinkChannel {
  private let kernel: ScriptedKernel
  private let answers = Mutex<[[UInt8]]>([])

  init(kernel: ScriptedKernel) { self.kernel = kernel }

  func send(_ datagram: [UInt8]) throws(SystemCallError) {
    let new = try kernel.answer(datagram)
    answers.withLock { $0 += new }
  }

  func receive() throws(SystemCallError) -> [UInt8]? {
    let next = answers.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    guard let next else { throw SystemCallError("recv", EAGAIN) }
    // An empty datagram stands for one that another process sent.
    return next.isEmpty ? nil : next
  }
}

/// NLMSG_ERROR, with an explanation if there is one.
func acknowledgement(_ code: Int32, _ sequence: UInt32, text: String? = nil) -> [UInt8] {
  var payload: [UInt8] = []
  payload.appendNative(-code)
  payload += [UInt8](repeating: 0, count: 16)
  var attributes = NetlinkAttributes()
  if let text { attributes.add(1, text) }
  let flags: UInt16 = text == nil ? 0x100 : 0x300
  return NetlinkMessage(type: 2, flags: flags, sequence: sequence, payload: (payload + attributes.bytes)[...]).bytes
}

/// An answer of the nbd family that carries an index.
func indexReply(command: UInt8, _ index: UInt32, family: UInt16, sequence: UInt32) -> [UInt8] {
  var attributes = NetlinkAttributes()
  attributes.add(1, index)
  let payload = [command, 1, 0, 0] + attributes.bytes
  return NetlinkMessage(type: family, flags: 0, sequence: sequence, payload: payload[...]).bytes
}
