import Testing

@testable import LinuxKernel

@Suite("generic netlink families")
struct GenericNetlinkTests {
  /// Linux 6.1 about its nbd family; captured.
  static let nbdFamily = bytes(
    """
    b4 00 00 00 10 00 00 00 01 00 00 00 7f 36 f5 c5 | 180 bytes, from the controller, sequence 1, to the socket's port
    01 02 00 00             | CTRL_CMD_NEWFAMILY, version 2
    08 00 02 00 6e 62 64 00 | CTRL_ATTR_FAMILY_NAME "nbd"
    06 00 01 00 20 00 00 00 | CTRL_ATTR_FAMILY_ID 32, a u16 and 2 bytes of padding
    08 00 03 00 01 00 00 00 | CTRL_ATTR_VERSION 1
    08 00 04 00 00 00 00 00 | CTRL_ATTR_HDRSIZE
    08 00 05 00 0a 00 00 00 | CTRL_ATTR_MAXATTR
    54 00 06 00             | CTRL_ATTR_OPS: nested, without NLA_F_NESTED
    14 00 01 00 08 00 01 00 01 00 00 00 08 00 02 00 0a 00 00 00
    14 00 02 00 08 00 01 00 02 00 00 00 08 00 02 00 0a 00 00 00
    14 00 03 00 08 00 01 00 03 00 00 00 08 00 02 00 0a 00 00 00
    14 00 04 00 08 00 01 00 05 00 00 00 08 00 02 00 0a 00 00 00
    24 00 07 00             | CTRL_ATTR_MCAST_GROUPS
    20 00 01 00             | the first of them
    08 00 02 00 09 00 00 00 | CTRL_ATTR_MCAST_GRP_ID 9
    11 00 01 00 6e 62 64 5f 6d 63 5f 67 72 6f 75 70 00 | CTRL_ATTR_MCAST_GRP_NAME "nbd_mc_group"
    00 00 00                | padding
    """)

  @Test("a family is asked for by name")
  func request() {
    #expect(
      GenericNetlinkFamily.request(name: "nbd", sequence: 1).bytes
        == bytes(
          """
          1c 00 00 00 10 00 05 00 01 00 00 00 00 00 00 00 | 28 bytes to GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK
          03 01 00 00             | CTRL_CMD_GETFAMILY, version 1
          08 00 02 00 6e 62 64 00 | CTRL_ATTR_FAMILY_NAME "nbd" and its NUL
          """))
  }

  @Test("id, version and groups by name")
  func family() throws {
    #expect(
      try announcement(Self.nbdFamily)
        == .present(GenericNetlinkFamily(id: 32, name: "nbd", version: 1, groups: ["nbd_mc_group": 9])))
  }

  @Test("a family without groups has none")
  func withoutGroups() throws {
    let datagram = NetlinkMessage(type: 16, flags: 0, sequence: 1, payload: Self.nbdFamily[16..<36]).bytes
    #expect(
      try announcement(datagram) == .present(GenericNetlinkFamily(id: 32, name: "nbd", version: 0, groups: [:])))
  }

  @Test("a family that goes is told by name")
  func removal() throws {
    #expect(
      try announcement(
        bytes(
          """
          24 00 00 00 10 00 00 00 00 00 00 00 00 00 00 00 | an event: sequence 0
          02 02 00 00             | CTRL_CMD_DELFAMILY
          08 00 02 00 6e 62 64 00 06 00 01 00 20 00 00 00 | its name and its id
          """)) == .removed(name: "nbd"))
  }

  @Test("a group that comes, and what another family says, is no announcement of a family")
  func others() throws {
    var datagram = Self.nbdFamily
    datagram[16] = 7  // CTRL_CMD_NEWMCAST_GRP
    #expect(try announcement(datagram) == nil)
    datagram = Self.nbdFamily
    datagram[4] = 0x20
    #expect(try announcement(datagram) == nil)
  }

  @Test(
    "a family that lacks what names it is malformed",
    arguments: [
      "01 02 00 00", "01 02 00", "", "02 02 00 00",
      "01 02 00 00 08 00 02 00 6e 62 64 00",  // no id
      "01 02 00 00 06 00 01 00 20 00 00 00",  // no name
      "01 02 00 00 08 00 02 00 6e 62 64 00 08 00 01 00 20 00 00 00",  // an id of 32 bits
      "01 02 00 00 08 00 02 00 6e 62 64 00 06 00 01 00 20 00 00 00 0c 00 07 00 08 00 01 00 01 00 00 00",  // bad group
    ])
  func malformed(text: String) {
    let message = NetlinkMessage(type: 16, flags: 0, sequence: 1, payload: bytes(text)[...])
    #expect(throws: NetlinkError.self) { try GenericNetlinkFamily.announcement(in: message) }
  }

  private func announcement(_ datagram: [UInt8]) throws -> GenericNetlinkFamily.Announcement? {
    try GenericNetlinkFamily.announcement(in: try #require(try NetlinkMessage.parse(datagram).first))
  }
}
