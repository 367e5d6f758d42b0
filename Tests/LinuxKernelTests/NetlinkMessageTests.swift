import Glibc
import Testing

@testable import LinuxKernel

@Suite("netlink messages")
struct NetlinkMessageTests {
  @Test("a message and its attributes, byte by byte")
  func layout() {
    var attributes = NetlinkAttributes()
    attributes.add(1, UInt32(5))
    attributes.add(2, UInt64(0x0102_0304_0506_0708))
    attributes.add(3, "ab")
    attributes.addNested(4) { $0.add(1, UInt8(9)) }
    let message = NetlinkMessage(type: 0x20, flags: 5, sequence: 7, payload: attributes.bytes[...])
    #expect(
      message.bytes
        == bytes(
          """
          38 00 00 00 | nlmsg_len: all 56 bytes
          20 00       | nlmsg_type: the family's id
          05 00       | nlmsg_flags: NLM_F_REQUEST | NLM_F_ACK
          07 00 00 00 | nlmsg_seq
          00 00 00 00 | nlmsg_pid: the kernel knows the socket
          08 00 01 00 05 00 00 00 | nla_len 8, nla_type 1, a u32
          0c 00 02 00 | nla_len 12, nla_type 2
          08 07 06 05 04 03 02 01 | a u64, at an offset that is no multiple of 8: 28
          07 00 03 00 | nla_len 7, without the padding
          61 62 00    | the string and its NUL
          00          | padding to 4
          0c 00 04 80 | nla_len 12, nla_type 4 with NLA_F_NESTED
          05 00 01 00 09 | inside it a u8
          00 00 00    | its padding, which is part of the outer length
          """))
  }

  @Test("what was built is read back")
  func roundTrip() throws {
    var attributes = NetlinkAttributes()
    attributes.add(1, UInt32.max)
    attributes.add(2, UInt64.max - 1)
    attributes.add(3, "größe")
    attributes.addNested(4) { list in
      for number in 0..<3 { list.addNested(1) { $0.add(7, UInt16(number)) } }
    }
    let message = NetlinkMessage(type: 99, flags: 0x300, sequence: .max, port: 77, payload: attributes.bytes[...])
    let parsed = try NetlinkMessage.parse(message.bytes + message.bytes)
    #expect(parsed == [message, message])
    let fields = try NetlinkAttribute.parse(parsed[1].payload)
    #expect(fields.map(\.type) == [1, 2, 3, 4])
    #expect(try fields[0].number(UInt32.self) == .max)
    #expect(try fields[1].number(UInt64.self) == .max - 1)
    #expect(fields[2].text == "größe")
    #expect(try fields[3].nested().map { try $0.nested().map { try $0.number(UInt16.self) } } == [[0], [1], [2]])
  }

  @Test("the padding of the last message and of the last attribute may be missing")
  func missingPadding() throws {
    let datagram = bytes("17 00 00 00 10 00 00 00 01 00 00 00 00 00 00 00 07 00 03 00 61 62 00")
    let messages = try NetlinkMessage.parse(datagram)
    #expect(try NetlinkAttribute.parse(try #require(messages.first).payload).map(\.text) == ["ab"])
  }

  @Test(
    "a length that lies is an error",
    arguments: [
      "10 00 00 00 10 00 00 00 01 00 00 00 00 00 00",  // one byte short of a header
      "11 00 00 00 10 00 00 00 01 00 00 00 00 00 00 00",  // longer than the datagram
      "0f 00 00 00 10 00 00 00 01 00 00 00 00 00 00 00",  // shorter than its header
      "00 00 00 00 10 00 00 00 01 00 00 00 00 00 00 00",  // no progress: an endless loop for the careless
      "ff ff ff ff 10 00 00 00 01 00 00 00 00 00 00 00",  // close to where aligning overflows
    ])
  func lyingMessage(text: String) {
    #expect(throws: NetlinkError.self) { try NetlinkMessage.parse(bytes(text)) }
  }

  @Test(
    "an attribute that lies is an error",
    arguments: [
      "08 00 01",  // one byte short of a header
      "03 00 01 00", "00 00 01 00",  // shorter than its header
      "09 00 01 00 05 00 00 00", "ff ff 01 00 05 00 00 00",  // longer than what is left
      "08 00 01 00 05 00 00 00 01",  // a stray byte behind
    ])
  func lyingAttribute(text: String) {
    #expect(throws: NetlinkError.self) { try NetlinkAttribute.parse(bytes(text)[...]) }
  }

  @Test("a number of another width is an error, not a guess")
  func width() throws {
    let attribute = try #require(try NetlinkAttribute.parse(bytes("08 00 01 00 05 00 00 00")[...]).first)
    #expect(throws: NetlinkError.self) { try attribute.number(UInt64.self) }
    #expect(throws: NetlinkError.self) { try attribute.number(UInt8.self) }
    #expect(try attribute.number(UInt32.self) == 5)
  }

  @Test("a text without a NUL ends with its attribute")
  func textWithoutNUL() throws {
    #expect(try NetlinkAttribute.parse(bytes("06 00 03 00 61 62")[...]).map(\.text) == ["ab"])
  }

  @Test("what does not fit into 16 bits of length is marked, and nothing of it is built")
  func tooLong() {
    var attributes = NetlinkAttributes()
    attributes.add(1, String(repeating: "x", count: 65530))
    #expect(!attributes.isTooLong)
    attributes.add(1, String(repeating: "x", count: 65531))
    #expect(attributes.isTooLong)
    var outer = NetlinkAttributes()
    outer.addNested(2) { $0.add(1, String(repeating: "x", count: 70000)) }
    #expect(outer.isTooLong)
  }
}
