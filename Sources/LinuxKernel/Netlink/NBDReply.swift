import CLinuxNBD

/// A device as NBD_CMD_STATUS tells of it.
package struct NBDDeviceStatus: Equatable, Sendable {
  package let index: Int
  /// Only that somebody holds the device: an open file is enough, and it stays when every link is dead.
  package let isConnected: Bool

  package init(index: Int, isConnected: Bool) {
    self.index = index
    self.isConnected = isConnected
  }
}

/// What the `nbd` family answers and announces.
package enum NBDReply {
  /// The index that CONNECT took; `nil` for another message.
  package static func connectedIndex(in message: GenericNetlinkMessage) throws(NetlinkError) -> Int? {
    guard message.command == Int(NBD_CMD_CONNECT) else { return nil }
    return try index(in: message)
  }

  /// The index of a device that lost a link; `nil` for another message.
  package static func deadLinkIndex(in message: GenericNetlinkMessage) throws(NetlinkError) -> Int? {
    guard message.command == Int(NBD_CMD_LINK_DEAD) else { return nil }
    return try index(in: message)
  }

  /// The devices that STATUS lists; `nil` for another message. A device that is not there makes an empty list.
  package static func statuses(in message: GenericNetlinkMessage) throws(NetlinkError) -> [NBDDeviceStatus]? {
    guard message.command == Int(NBD_CMD_STATUS) else { return nil }
    // The list is all that the message holds, and its 16-bit length wraps with more than 3276 devices
    // (nbd_genl_status, nla_nest_end): the message's own length is right.
    guard let type = message.attributes.native(UInt16.self, at: 2),
      Int32(type) & ~NLA_F_NESTED == Int32(NBD_ATTR_DEVICE_LIST)
    else { throw .malformed("NBD_CMD_STATUS without a list of devices") }
    var statuses: [NBDDeviceStatus] = []
    for item in try NetlinkAttribute.parse(message.attributes.dropFirst(NetlinkAttribute.headerSize)) {
      let fields = try item.nested()
      guard let index = fields.first(Int(NBD_DEVICE_INDEX)), let connected = fields.first(Int(NBD_DEVICE_CONNECTED))
      else { throw .malformed("a device without an index or a state") }
      statuses.append(
        NBDDeviceStatus(index: Int(try index.number(UInt32.self)), isConnected: try connected.number(UInt8.self) != 0))
    }
    return statuses
  }

  private static func index(in message: GenericNetlinkMessage) throws(NetlinkError) -> Int {
    guard let index = try NetlinkAttribute.parse(message.attributes).first(Int(NBD_ATTR_INDEX)) else {
      throw .malformed("an nbd message without an index")
    }
    return Int(try index.number(UInt32.self))
  }
}
