import NBDProtocol
import Testing

@Suite("Requests, replies and errors of transmission")
struct TransmissionTests {
  private let wire =
    be(UInt32(0x2560_9513)) + be(UInt16(0x0011)) + be(UInt16(6)) + be(UInt64(0x0102_0304_0506_0708))
    + be(UInt64(0xfffe_fdfc_fbfa_f9f8)) + be(UInt32(0xdead_beef))

  @Test("a request has 28 bytes in the order of the specification, and comes back the same")
  func request() throws {
    let request = Request(
      .writeZeroes, flags: [.fua, .fastZero], cookie: 0x0102_0304_0506_0708, offset: 0xfffe_fdfc_fbfa_f9f8,
      length: 0xdead_beef)
    #expect(request.bytes == wire)
    #expect(wire.count == Request.byteCount)
    #expect(try Request(reading: wire.span.bytes) == request)
    #expect(try Request(reading: (wire + [1, 2, 3]).span.bytes) == request)
  }

  @Test("a request of an unknown command and flags is still read whole")
  func unknownCommand() throws {
    let wire = be(UInt32(0x2560_9513)) + be(UInt16.max) + be(UInt16(4711)) + [UInt8](repeating: 0, count: 20)
    let request = try Request(reading: wire.span.bytes)
    #expect(request.command == CommandCode(rawValue: 4711))
    #expect(request.flags.rawValue == .max)
    #expect(request.bytes == wire)
    #expect(request.command.description == "command 4711")
  }

  @Test("fewer bytes than a request, and another magic, are errors")
  func brokenRequest() {
    for count in 0..<28 {
      #expect(throws: WireError.truncated(count)) { try Request(reading: Array(wire.prefix(count)).span.bytes) }
    }
    let historic = be(UInt32(0x1256_0953)) + wire.dropFirst(4)
    #expect(throws: WireError.wrongMagic(0x1256_0953)) { try Request(reading: historic.span.bytes) }
  }

  @Test("a request is read from any alignment")
  func alignment() throws {
    for shift in 0..<8 {
      let bytes = [UInt8](repeating: 0, count: shift) + wire
      #expect(try Request(reading: bytes.span.bytes.extracting(shift...)).bytes == wire)
    }
  }

  @Test("a simple reply has 16 bytes, and comes back the same")
  func simpleReply() throws {
    let wire = be(UInt32(0x6744_6698)) + be(UInt32(28)) + be(UInt64(0x0102_0304_0506_0708))
    let reply = SimpleReply(error: .noSpace, cookie: 0x0102_0304_0506_0708)
    #expect(reply.bytes == wire)
    #expect(try SimpleReply(reading: wire.span.bytes) == reply)
    let success = be(UInt32(0x6744_6698)) + be(UInt32(0)) + be(UInt64.max)
    #expect(try SimpleReply(reading: success.span.bytes) == SimpleReply(cookie: .max))
    #expect(SimpleReply(cookie: .max).bytes == success)
  }

  @Test("fewer bytes than a reply, and another magic, are errors")
  func brokenReply() {
    let wire = be(UInt32(0x6744_6698)) + [UInt8](repeating: 0, count: 12)
    for count in 0..<16 {
      #expect(throws: WireError.truncated(count)) { try SimpleReply(reading: Array(wire.prefix(count)).span.bytes) }
    }
    let structured = be(UInt32(0x668e_33ef)) + wire.dropFirst(4)
    #expect(throws: WireError.wrongMagic(0x668e_33ef)) { try SimpleReply(reading: structured.span.bytes) }
  }

  @Test("errors keep their errno both ways", arguments: ErrorCode.allCases)
  func bothWays(error: ErrorCode) {
    #expect(ErrorCode(reply: error.rawValue) == error)
    #expect(ErrorCode(errno: error.errno) == error)
    #expect(error.errno == Int32(error.rawValue))
    #expect(error.description.hasPrefix("NBD_E"))
  }

  @Test("an unknown error counts as EINVAL, and 0 as success")
  func unknownErrors() {
    for error in [2, 3, 13, 109, 0x8000_0001, .max] as [UInt32] { #expect(ErrorCode(reply: error) == .invalid) }
    #expect(ErrorCode(reply: 0) == nil)
  }

  @Test(
    "an errno without its own number gets the nearest",
    arguments: [(30, .notPermitted), (27, .noSpace), (122, .noSpace), (11, .invalid), (0, .invalid), (-1, .invalid)]
      as [(Int32, ErrorCode)])
  func fromErrno(errno: Int32, error: ErrorCode) {
    #expect(ErrorCode(errno: errno) == error)
  }
}

@Suite("Constants")
struct ConstantTests {
  @Test("options, replies and infos have the numbers and names of the specification")
  func names() {
    #expect(OptionCode.allCases.map(\.rawValue) == [1, 2, 3, 5, 6, 7, 8, 9, 10, 11])
    #expect(OptionCode.go.description == "NBD_OPT_GO")
    #expect(Set(OptionCode.allCases.map(\.description)).count == 10)
    let errors: [OptionReplyCode] = [
      .unsupported, .policy, .invalid, .platform, .tlsRequired, .unknown, .shutdown, .blockSizeRequired, .tooBig,
      .extendedHeadersRequired,
    ]
    #expect(errors.map(\.rawValue) == (1...10).map { 0x8000_0000 + $0 })
    #expect(errors.allSatisfy { $0.isError && $0.description.hasPrefix("NBD_REP_ERR_") })
    #expect([.ack, .server, .info, .metaContext].map(\OptionReplyCode.rawValue) == [1, 2, 3, 4])
    #expect([.export, .name, .description, .blockSize].map(\InfoCode.rawValue) == [0, 1, 2, 3])
    #expect(InfoCode.blockSize.description == "NBD_INFO_BLOCK_SIZE")
    #expect(InfoCode(rawValue: 9).description == "info type 9")
  }

  @Test("transmission flags name their bits in order")
  func flags() {
    let all = TransmissionFlags(rawValue: 0x1fff)
    #expect(all.names.count == 13)
    #expect(TransmissionFlags([.readOnly, .canMultiConn]).names == ["NBD_FLAG_READ_ONLY", "NBD_FLAG_CAN_MULTI_CONN"])
    #expect(TransmissionFlags(rawValue: 1 << 4) == .rotational)
    #expect(TransmissionFlags(rawValue: 1 << 12) == .blockStatusPayload)
  }

  @Test("commands have their numbers and names")
  func commands() {
    let all: [CommandCode] = [.read, .write, .disconnect, .flush, .trim, .cache, .writeZeroes, .blockStatus]
    #expect(all.map(\.rawValue) == Array(0...7))
    #expect(all.allSatisfy { $0.description.hasPrefix("NBD_CMD_") })
    #expect(Set(all.map(\.description)).count == 8)
  }
}
