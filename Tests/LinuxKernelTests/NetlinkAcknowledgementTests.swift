import Glibc
import Testing

@testable import LinuxKernel

@Suite("netlink acknowledgements")
struct NetlinkAcknowledgementTests {
  /// A refusal as Linux 6.18 sent it to a request for a family whose name lacked its NUL; captured.
  private static let refusal = bytes(
    """
    68 00 00 00 02 00       | NLMSG_ERROR of 104 bytes
    00 03                   | NLM_F_CAPPED | NLM_F_ACK_TLVS
    09 00 00 00 e6 1f 00 00 | of sequence 9, to the socket's port
    ea ff ff ff             | -EINVAL
    24 00 00 00 10 00 05 00 09 00 00 00 00 00 00 00 | the request's header; its 20 bytes of payload are left out
    27 00 01 00             | NLMSGERR_ATTR_MSG
    41 74 74 72 69 62 75 74 65 20 66 61 69 6c 65 64 20 70 6f 6c 69 63 79 20
    76 61 6c 69 64 61 74 69 6f 6e 00 | "Attribute failed policy validation" and its NUL
    00                      | padding
    08 00 02 00 14 00 00 00 | NLMSGERR_ATTR_OFFS: the attribute at byte 20
    14 00 04 80 08 00 07 00 0f 00 00 00 08 00 01 00 0c 00 00 00 | NLMSGERR_ATTR_POLICY, which nobody here reads
    """)

  /// The same without NETLINK_CAP_ACK: the whole request stands before the attributes; captured.
  private static let uncapped =
    bytes("7c 00 00 00 02 00 00 02 09 00 00 00 e6 1f 00 00") + refusal[16..<36]
    + bytes("03 01 00 00 08 00 02 00 41 41 41 41 05 00 01 00 01 00 00 00") + refusal[36...]

  @Test("errno, explanation and place of a refusal", arguments: [refusal, uncapped])
  func refused(datagram: [UInt8]) throws {
    let end = try acknowledgement(datagram)
    #expect(end.code == EINVAL)
    #expect(end.text == "Attribute failed policy validation")
    #expect(end.offset == 20)
  }

  @Test("success is an error message with 0")
  func success() throws {
    let end = try acknowledgement(
      bytes(
        """
        24 00 00 00 02 00 00 01 01 00 00 00 7f 36 f5 c5 | NLMSG_ERROR, NLM_F_CAPPED, to sequence 1
        00 00 00 00 1c 00 00 00 10 00 05 00 01 00 00 00 00 00 00 00 | 0, the request's header
        """))
    #expect(end.code == 0)
    #expect(end.text == nil)
    #expect(end.offset == nil)
  }

  @Test("the end of several parts is one, with its error where it has one")
  func done() throws {
    #expect(try acknowledgement(bytes("10 00 00 00 03 00 02 00 01 00 00 00 00 00 00 00")).code == 0)
    #expect(try acknowledgement(bytes("14 00 00 00 03 00 02 00 01 00 00 00 00 00 00 00 00 00 00 00")).code == 0)
    #expect(try acknowledgement(bytes("14 00 00 00 03 00 02 00 01 00 00 00 00 00 00 00 f0 ff ff ff")).code == EBUSY)
  }

  @Test("other messages are none")
  func others() throws {
    for type in [UInt16(1), 4, 16, 32] {
      let message = NetlinkMessage(type: type, flags: 0, sequence: 1, payload: [])
      #expect(try NetlinkAcknowledgement(message) == nil)
    }
  }

  @Test("an error that no errno is, is kept within one")
  func extremes() throws {
    for (error, code) in [("00 00 00 80", Int32.max), ("05 00 00 00", 5)] {
      let datagram = bytes("24 00 00 00 02 00 00 01 01 00 00 00 00 00 00 00 \(error)") + Self.refusal[20..<36]
      #expect(try acknowledgement(datagram).code == code)
    }
  }

  @Test("a request's length that lies leaves no attributes behind it, and traps nothing")
  func lyingRequest() throws {
    var datagram = Self.uncapped
    datagram.replaceSubrange(20..<24, with: [0xff, 0xff, 0xff, 0xff])
    let end = try acknowledgement(datagram)
    #expect(end.code == EINVAL)
    #expect(end.text == nil)
  }

  @Test("one that is cut short is malformed")
  func short() {
    for length in [16, 17, 20, 23] {
      var datagram = Array(Self.refusal.prefix(length))
      datagram.replaceSubrange(0..<1, with: [UInt8(length)])
      #expect(throws: NetlinkError.self) { try acknowledgement(datagram) }
    }
  }

  private func acknowledgement(_ datagram: [UInt8]) throws -> NetlinkAcknowledgement {
    let message = try #require(try NetlinkMessage.parse(datagram).first)
    return try #require(try NetlinkAcknowledgement(message))
  }
}
