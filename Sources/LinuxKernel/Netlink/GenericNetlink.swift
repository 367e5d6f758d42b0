import CLinuxNBD

/// A message of a generic netlink family: `struct genlmsghdr` and attributes.
package struct GenericNetlinkMessage: Equatable, Sendable {
  /// The family's id, which is the netlink message's type.
  package let family: UInt16
  package let command: Int
  package let attributes: ArraySlice<UInt8>

  static let headerSize = 4

  /// Throws `malformed` when there is no room for its header.
  package init(_ message: NetlinkMessage) throws(NetlinkError) {
    guard let command = message.payload.first, message.payload.count >= GenericNetlinkMessage.headerSize else {
      throw .malformed("a generic netlink header cut short")
    }
    family = message.type
    self.command = Int(command)
    attributes = message.payload.dropFirst(GenericNetlinkMessage.headerSize)
  }

  /// A request that asks for an acknowledgement.
  static func request(
    family: UInt16, command: Int, version: Int, sequence: UInt32, _ attributes: NetlinkAttributes
  ) -> NetlinkMessage {
    var payload: [UInt8] = [UInt8(truncatingIfNeeded: command), UInt8(truncatingIfNeeded: version)]
    payload.appendNative(UInt16(0))
    payload += attributes.bytes
    return NetlinkMessage(
      type: family, flags: UInt16(truncatingIfNeeded: NLM_F_REQUEST | NLM_F_ACK), sequence: sequence,
      payload: payload[...])
  }
}

/// A generic netlink family as the kernel's controller (`nlctrl`) describes it.
package struct GenericNetlinkFamily: Equatable, Sendable {
  package let id: UInt16
  package let name: String
  package let version: UInt32
  /// The multicast groups by name.
  package let groups: [String: UInt32]

  /// The controller's own id, the only one that never changes, also the number of its group.
  package static let controller = UInt16(GENL_ID_CTRL)

  /// CTRL_CMD_GETFAMILY: asks the controller for a family by name.
  package static func request(name: String, sequence: UInt32) -> NetlinkMessage {
    var attributes = NetlinkAttributes()
    attributes.add(Int(CTRL_ATTR_FAMILY_NAME), name)
    return GenericNetlinkMessage.request(
      family: controller, command: Int(CTRL_CMD_GETFAMILY), version: 1, sequence: sequence, attributes)
  }

  /// What the controller tells of a family: that it is there, asked for or newly come, or that it goes.
  package enum Announcement: Equatable, Sendable {
    case present(GenericNetlinkFamily)
    case removed(name: String)
  }

  /// `nil` for any other message.
  package static func announcement(in message: NetlinkMessage) throws(NetlinkError) -> Announcement? {
    guard message.type == controller else { return nil }
    let message = try GenericNetlinkMessage(message)
    switch message.command {
    case Int(CTRL_CMD_NEWFAMILY): return .present(try GenericNetlinkFamily(message))
    case Int(CTRL_CMD_DELFAMILY):
      let attributes = try NetlinkAttribute.parse(message.attributes)
      guard let name = attributes.first(Int(CTRL_ATTR_FAMILY_NAME)) else {
        throw .malformed("a family without a name")
      }
      return .removed(name: name.text)
    default: return nil
    }
  }

  private init(_ message: GenericNetlinkMessage) throws(NetlinkError) {
    let attributes = try NetlinkAttribute.parse(message.attributes)
    guard let id = attributes.first(Int(CTRL_ATTR_FAMILY_ID)), let name = attributes.first(Int(CTRL_ATTR_FAMILY_NAME))
    else { throw .malformed("a family without an id or a name") }
    var groups: [String: UInt32] = [:]
    for group in try attributes.first(Int(CTRL_ATTR_MCAST_GROUPS))?.nested() ?? [] {
      let fields = try group.nested()
      guard let name = fields.first(Int(CTRL_ATTR_MCAST_GRP_NAME)), let id = fields.first(Int(CTRL_ATTR_MCAST_GRP_ID))
      else { throw .malformed("a multicast group without an id or a name") }
      groups[name.text] = try id.number()
    }
    self.id = try id.number()
    self.name = name.text
    version = try attributes.first(Int(CTRL_ATTR_VERSION))?.number() ?? 0
    self.groups = groups
  }

  package init(id: UInt16, name: String, version: UInt32, groups: [String: UInt32]) {
    self.id = id
    self.name = name
    self.version = version
    self.groups = groups
  }
}
