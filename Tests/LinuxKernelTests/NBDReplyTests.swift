import Testing

@testable import LinuxKernel

/// The bytes were captured from Linux 6.1, but where it says otherwise.
@Suite("answers of the nbd driver")
struct NBDReplyTests {
  @Test("CONNECT answers the index")
  func connect() throws {
    let message = try message(
      """
      1c 00 00 00 20 00 00 00 02 00 00 00 3c 6b e1 a3 | 28 bytes of family 32, sequence 2
      01 01 00 00             | NBD_CMD_CONNECT
      08 00 01 00 05 00 00 00 | NBD_ATTR_INDEX
      """)
    #expect(try NBDReply.connectedIndex(in: message) == 5)
    #expect(try NBDReply.deadLinkIndex(in: message) == nil)
    #expect(try NBDReply.statuses(in: message) == nil)
  }

  @Test("a dead link is told with the device's index alone")
  func deadLink() throws {
    // As nbd_mcast_index makes it.
    let message = try message(
      """
      1c 00 00 00 20 00 00 00 00 00 00 00 00 00 00 00 | an event: no sequence, no port
      04 01 00 00             | NBD_CMD_LINK_DEAD
      08 00 01 00 05 00 00 00 | NBD_ATTR_INDEX
      """)
    #expect(try NBDReply.deadLinkIndex(in: message) == 5)
    #expect(try NBDReply.connectedIndex(in: message) == nil)
  }

  @Test("STATUS lists devices")
  func status() throws {
    let message = try message(
      """
      40 00 00 00 20 00 00 00 02 00 00 00 8f 56 e6 aa | 64 bytes of family 32
      05 01 00 00             | NBD_CMD_STATUS
      2c 00 09 00             | NBD_ATTR_DEVICE_LIST, nested without NLA_F_NESTED
      14 00 01 00             | NBD_DEVICE_ITEM
      08 00 01 00 00 00 00 00 | NBD_DEVICE_INDEX
      05 00 02 00 01 00 00 00 | NBD_DEVICE_CONNECTED, a u8 and padding
      14 00 01 00             | NBD_DEVICE_ITEM
      08 00 01 00 05 00 00 00 | NBD_DEVICE_INDEX
      05 00 02 00 00 00 00 00 | NBD_DEVICE_CONNECTED
      """)
    #expect(
      try NBDReply.statuses(in: message)
        == [NBDDeviceStatus(index: 0, isConnected: true), NBDDeviceStatus(index: 5, isConnected: false)])
  }

  @Test("STATUS of a device that is not there is an empty list")
  func noDevice() throws {
    let message = try message("18 00 00 00 20 00 00 00 02 00 00 00 00 00 00 00 05 01 00 00 04 00 09 00")
    #expect(try NBDReply.statuses(in: message) == [])
  }

  @Test("STATUS of so many devices that the length of the list has wrapped lists them all")
  func manyDevices() throws {
    var list = NetlinkAttributes()
    let count = 4000
    for index in 0..<count {
      list.addNested(1) { item in
        item.add(1, UInt32(index))
        item.add(2, UInt8(1))
      }
    }
    // 80,004 bytes, of which nla_nest_end writes down 14,468.
    let length = UInt16(truncatingIfNeeded: 4 + list.bytes.count)
    let header = [UInt8(truncatingIfNeeded: length), UInt8(truncatingIfNeeded: length >> 8), 9, 0]
    let payload = [5, 1, 0, 0] + header + list.bytes
    let datagram = NetlinkMessage(type: 32, flags: 0, sequence: 2, payload: payload[...]).bytes
    let message = try GenericNetlinkMessage(try #require(try NetlinkMessage.parse(datagram).first))
    let statuses = try #require(try NBDReply.statuses(in: message))
    #expect(statuses.map(\.index) == Array(0..<count))
  }

  @Test(
    "an answer that lacks what it is about is malformed",
    arguments: [
      "01 01 00 00", "04 01 00 00", "05 01 00 00",
      "01 01 00 00 06 00 01 00 05 00 00 00",  // an index of 16 bits
      "05 01 00 00 08 00 01 00 05 00 00 00",  // not a list
      "05 01 00 00 10 00 09 00 0c 00 01 00 08 00 01 00 05 00 00 00",  // a device without a state
    ])
  func malformed(text: String) throws {
    let message = try GenericNetlinkMessage(
      NetlinkMessage(type: 32, flags: 0, sequence: 1, payload: bytes(text)[...]))
    #expect(throws: NetlinkError.self) {
      _ = try NBDReply.connectedIndex(in: message)
      _ = try NBDReply.deadLinkIndex(in: message)
      _ = try NBDReply.statuses(in: message)
    }
  }

  private func message(_ text: String) throws -> GenericNetlinkMessage {
    try GenericNetlinkMessage(try #require(try NetlinkMessage.parse(bytes(text)).first))
  }
}
