import Glibc
import LinuxKernel
import Synchronization

/// A request of the nbd family as the driver reads it; what it does not carry is `nil`.
package struct FakeRequest: Equatable, Sendable {
  package enum Command: Int, Sendable {
    case connect = 1
    case disconnect = 2
    case reconfigure = 3
  }

  package var command: Command
  package var index: Int?
  package var backend: String?
  package var size: UInt64?
  package var blockSize: UInt64?
  package var serverFlags: UInt64?
  package var clientFlags: UInt64?
  package var timeout: UInt64?
  package var deadConnectionTimeout: UInt64?
  package var socketCount = 0
  /// Links of the device that were up when it came.
  package var linksUp = 0

  package init(_ command: Command, index: Int?) {
    self.command = command
    self.index = index
  }

  /// With the sockets' numbers in this process.
  fileprivate static func reading(_ message: GenericNetlinkMessage) -> (FakeRequest, sockets: [Int32])? {
    guard let command = Command(rawValue: message.command) else { return nil }
    var request = FakeRequest(command, index: nil)
    var sockets: [Int32] = []
    for attribute in (try? NetlinkAttribute.parse(message.attributes)) ?? [] {
      // enum NBD_ATTR_* of linux/nbd-netlink.h.
      switch attribute.type {
      case 1: request.index = (try? attribute.number(UInt32.self)).map(Int.init)
      case 2: request.size = try? attribute.number()
      case 3: request.blockSize = try? attribute.number()
      case 4: request.timeout = try? attribute.number()
      case 5: request.serverFlags = try? attribute.number()
      case 6: request.clientFlags = try? attribute.number()
      case 7:
        for item in (try? attribute.nested()) ?? [] {
          guard let number = try? item.nested().first?.number(UInt32.self) else { continue }
          sockets.append(Int32(bitPattern: number))
        }
        request.socketCount = sockets.count
      case 8: request.deadConnectionTimeout = try? attribute.number()
      case 10: request.backend = attribute.text
      default: return nil
      }
    }
    return (request, sockets)
  }
}

/// A socket to the fake driver, for one call.
final class FakeChannel: NetlinkChannel {
  private static let family: UInt16 = 32

  private let driver: FakeDriver
  private let answers = Mutex<[[UInt8]]>([])

  init(driver: FakeDriver) { self.driver = driver }

  func send(_ datagram: [UInt8]) throws(SystemCallError) {
    guard let message = try? NetlinkMessage.parse(datagram).first, let request = try? GenericNetlinkMessage(message)
    else { throw SystemCallError("sendto", EINVAL) }
    var replies: [[UInt8]] = []
    var code: Int32 = 0
    if message.type == GenericNetlinkFamily.controller {
      var family = NetlinkAttributes()
      family.add(2, "nbd")
      family.add(1, FakeChannel.family)
      replies.append(reply(type: GenericNetlinkFamily.controller, command: 1, message.sequence, family))
    } else if let (fake, sockets) = FakeRequest.reading(request) {
      code = driver.answer(fake, sockets)
      if code == 0, fake.command == .connect, let index = fake.index {
        var attributes = NetlinkAttributes()
        attributes.add(1, UInt32(index))
        replies.append(reply(type: FakeChannel.family, command: 1, message.sequence, attributes))
      }
    } else {
      code = EINVAL
    }
    replies.append(acknowledgement(code, message.sequence))
    answers.withLock { $0 += replies }
  }

  func receive() throws(SystemCallError) -> [UInt8]? {
    let next = answers.withLock { $0.isEmpty ? nil : $0.removeFirst() }
    guard let next else { throw SystemCallError("recv", EAGAIN) }
    return next
  }

  private func reply(type: UInt16, command: UInt8, _ sequence: UInt32, _ attributes: NetlinkAttributes) -> [UInt8] {
    let payload = [command, 1, 0, 0] + attributes.bytes
    return NetlinkMessage(type: type, flags: 0, sequence: sequence, payload: payload[...]).bytes
  }

  /// NLMSG_ERROR.
  private func acknowledgement(_ code: Int32, _ sequence: UInt32) -> [UInt8] {
    let payload = withUnsafeBytes(of: -code) { Array($0) } + [UInt8](repeating: 0, count: 16)
    return NetlinkMessage(type: 2, flags: 0x100, sequence: sequence, payload: payload[...]).bytes
  }
}
