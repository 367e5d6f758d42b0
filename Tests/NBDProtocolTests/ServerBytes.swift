import NBDProtocol

/// What servers send, byte for byte, and what clients answer; written apart from the encoder under test.
func be(_ value: some FixedWidthInteger) -> [UInt8] {
  stride(from: value.bitWidth - 8, through: 0, by: -8).map { UInt8(truncatingIfNeeded: value >> $0) }
}

func text(_ string: String) -> [UInt8] { Array(string.utf8) }

let zeroes = [UInt8](repeating: 0, count: 124)

/// The 18 bytes of a newstyle server.
func newstyle(_ flags: UInt16) -> [UInt8] { text("NBDMAGIC") + text("IHAVEOPT") + be(flags) }

/// The 152 bytes of an oldstyle server.
func oldstyle(size: UInt64, flags: UInt32) -> [UInt8] {
  text("NBDMAGIC") + be(UInt64(0x0000_4202_8186_1253)) + be(size) + be(flags) + zeroes
}

func reply(
  to option: UInt32, _ type: UInt32, _ data: [UInt8] = [], length: UInt32? = nil,
  magic: UInt64 = 0x0003_e889_0455_65a9
) -> [UInt8] {
  be(magic) + be(option) + be(type) + be(length ?? UInt32(data.count)) + data
}

func errorReply(to option: UInt32, _ number: UInt32, _ message: String = "") -> [UInt8] {
  reply(to: option, 0x8000_0000 + number, text(message))
}

func ack(_ option: UInt32) -> [UInt8] { reply(to: option, 1) }

func entry(_ name: String, _ description: String = "") -> [UInt8] {
  reply(to: list, 2, be(UInt32(name.utf8.count)) + text(name) + text(description))
}

func exportInfo(to option: UInt32 = go, size: UInt64, flags: UInt16) -> [UInt8] {
  reply(to: option, 3, be(UInt16(0)) + be(size) + be(flags))
}

func nameInfo(to option: UInt32 = go, _ name: String) -> [UInt8] { reply(to: option, 3, be(UInt16(1)) + text(name)) }

func descriptionInfo(to option: UInt32 = go, _ description: String) -> [UInt8] {
  reply(to: option, 3, be(UInt16(2)) + text(description))
}

func blockSizeInfo(to option: UInt32 = go, _ minimum: UInt32, _ preferred: UInt32, _ maximum: UInt32) -> [UInt8] {
  reply(to: option, 3, be(UInt16(3)) + be(minimum) + be(preferred) + be(maximum))
}

let exportName: UInt32 = 1
let abort: UInt32 = 2
let list: UInt32 = 3
let startTLS: UInt32 = 5
let info: UInt32 = 6
let go: UInt32 = 7

/// The client's flags, 32 bits.
func clientFlags(_ flags: UInt32) -> [UInt8] { be(flags) }

/// An option as the client sends it.
func option(_ code: UInt32, _ data: [UInt8] = []) -> [UInt8] {
  text("IHAVEOPT") + be(code) + be(UInt32(data.count)) + data
}

/// NBD_OPT_GO or NBD_OPT_INFO as the client sends it.
func ask(_ code: UInt32, _ name: String, infos: [UInt16]) -> [UInt8] {
  option(code, be(UInt32(name.utf8.count)) + text(name) + be(UInt16(infos.count)) + infos.flatMap { be($0) })
}

let disconnectRequest = be(UInt32(0x2560_9513)) + be(UInt16(0)) + be(UInt16(2)) + [UInt8](repeating: 0, count: 20)
