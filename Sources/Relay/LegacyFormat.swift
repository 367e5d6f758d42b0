import NBDProtocol
import RelayModel

/// Why a file is not the legacy of a relay that it should be.
package enum LegacyError: Error, Equatable, Sendable, CustomStringConvertible {
  /// It can't be read, or is no sealed file in memory.
  case unreadable(String)
  /// It is not in the form in which this program writes it; the text says what is wrong.
  case malformed(String)
  /// It is in a form of another version.
  case version(UInt32)
  /// It is that of the relay of this name.
  case foreign(String)

  package var description: String {
    switch self {
    case .unreadable(let text): "it can't be read: \(text)"
    case .malformed(let text): "it is damaged: \(text)"
    case .version(let version): "it is of version \(version), which this program does not know"
    case .foreign(let name): "it is that of \(name)"
    }
  }
}

/// The bytes of a legacy: a header, a table of writes, and the payloads one behind the other. Integers are big-endian.
///
///     header   8 magic, 4 version, 4 owed errors (1: to FLUSH, 2: to FUA), 8 identifier, 4 writes, 4 bytes of name,
///              8 bytes of payload, 216 name
///     table    16 for each write: 8 offset, 4 length, 2 command, 2 flags
///
/// What is read is taken for what anybody may have written: no length is believed that the file does not bear out.
enum LegacyFormat {
  static let headerSize = 256
  static let entrySize = 16
  static let longestName = 216
  /// More than a ledger keeps (LedgerLimits), so that no count makes a table that is too long to read.
  static let mostWrites = 1 << 17
  private static let magic: UInt64 = 0x6e62_6461_6c6f_6700  // "nbdalog\0"
  private static let version: UInt32 = 1

  struct Header: Equatable {
    var identifier: UInt64
    var name: String
    var owed: OwedErrors
    var count: Int
    /// Of all payloads, in bytes.
    var payload: Int
  }

  /// `name` is cut where it is too long.
  static func encode(_ header: Header, into bytes: UnsafeMutableRawBufferPointer) {
    guard bytes.count >= headerSize, let base = bytes.baseAddress else { return }
    let name = Array(header.name.utf8.prefix(longestName))
    bytes.initializeMemory(as: UInt8.self, repeating: 0)
    Wire.store(magic, base, 0)
    Wire.store(version, base, 8)
    Wire.store(UInt32(header.owed.toFlush ? 1 : 0) | (header.owed.toFUA ? 2 : 0), base, 12)
    Wire.store(header.identifier, base, 16)
    Wire.store(UInt32(clamping: header.count), base, 24)
    Wire.store(UInt32(name.count), base, 28)
    Wire.store(UInt64(clamping: header.payload), base, 32)
    UnsafeMutableRawBufferPointer(rebasing: bytes[40..<headerSize]).copyBytes(from: name)
  }

  /// `length`: of the whole file.
  static func header(in bytes: UnsafeRawBufferPointer, length: Int) throws(LegacyError) -> Header {
    guard bytes.count >= headerSize, let base = bytes.baseAddress, length >= headerSize else {
      throw .malformed("it has \(length) bytes, less than its header")
    }
    guard Wire.load(base, 0) == magic else { throw .malformed("the magic number is wrong") }
    let version: UInt32 = Wire.load(base, 8)
    guard version == LegacyFormat.version else { throw .version(version) }
    let owed: UInt32 = Wire.load(base, 12)
    let count: UInt32 = Wire.load(base, 24)
    let nameLength: UInt32 = Wire.load(base, 28)
    let payload: UInt64 = Wire.load(base, 32)
    guard owed < 4 else { throw .malformed("it owes errors of an unknown kind") }
    guard count <= mostWrites else { throw .malformed("it has \(count) writes") }
    guard nameLength <= longestName else { throw .malformed("its name has \(nameLength) bytes") }
    let rest = length - headerSize - Int(count) * entrySize
    guard rest >= 0, UInt64(rest) == payload else {
      throw .malformed("\(count) writes with \(payload) bytes don't make its \(length) bytes")
    }
    return Header(
      identifier: Wire.load(base, 16),
      name: String(decoding: bytes[40..<40 + Int(nameLength)], as: UTF8.self),
      owed: OwedErrors(toFlush: owed & 1 != 0, toFUA: owed & 2 != 0), count: Int(count), payload: rest)
  }

  /// There must be room for all.
  static func encode(_ writes: [LoggedWrite], into bytes: UnsafeMutableRawBufferPointer) {
    guard let base = bytes.baseAddress, bytes.count >= writes.count * entrySize else { return }
    for (index, write) in writes.enumerated() {
      let place = base + index * entrySize
      Wire.store(write.offset, place, 0)
      Wire.store(write.length, place, 8)
      Wire.store(write.command.rawValue, place, 12)
      Wire.store(write.flags.rawValue, place, 14)
    }
  }

  /// The writes of a table, without the places of their payloads.
  static func writes(in bytes: UnsafeRawBufferPointer, of header: Header) throws(LegacyError) -> [LoggedWrite] {
    guard bytes.count == header.count * entrySize else { throw .malformed("its table is not whole") }
    var writes: [LoggedWrite] = []
    writes.reserveCapacity(header.count)
    var payload = 0
    for index in 0..<header.count {
      guard let place = bytes.baseAddress.map({ $0 + index * entrySize }) else { break }
      let write = LoggedWrite(
        CommandCode(rawValue: Wire.load(place, 12)), flags: CommandFlags(rawValue: Wire.load(place, 14)),
        offset: Wire.load(place, 0), length: Wire.load(place, 8))
      guard !write.offset.addingReportingOverflow(UInt64(write.length)).overflow else {
        throw .malformed("write \(index) ends behind every disk")
      }
      switch write.command {
      case .write:
        guard Int(write.length) <= KernelSide.largestPayload else {
          throw .malformed("write \(index) has \(write.length) bytes")
        }
        payload += Int(write.length)
      case .trim, .writeZeroes: break
      default: throw .malformed("entry \(index) is no write")
      }
      writes.append(write)
    }
    guard payload == header.payload else {
      throw .malformed("its writes have \(payload) bytes, and \(header.payload) are there")
    }
    return writes
  }
}
