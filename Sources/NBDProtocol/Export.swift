/// What a server says of one export when negotiation ends (proto.md, "Option reply types", NBD_REP_INFO).
package struct ExportInfo: Equatable, Sendable {
  /// The name that was asked for.
  package var name: String
  /// In bytes, as the server said it.
  package var size: UInt64
  package var flags: TransmissionFlags
  /// `nil`: the server did not say; proto.md then assumes 1, 4096 and 32 MiB at most.
  package var blockSizes: BlockSizes?
  /// NBD_INFO_NAME, where the server gave one.
  package var canonicalName: String?
  /// NBD_INFO_DESCRIPTION, where the server gave one.
  package var description: String?

  package init(name: String, size: UInt64, flags: TransmissionFlags, blockSizes: BlockSizes? = nil) {
    self.name = name
    self.size = size
    self.flags = flags
    self.blockSizes = blockSizes
  }
}

/// The server's block size constraints in bytes (NBD_INFO_BLOCK_SIZE), checked: `minimum` and `preferred` are powers
/// of two, `minimum <= preferred <= maximumPayload`.
package struct BlockSizes: Equatable, Sendable {
  package var minimum: UInt32
  package var preferred: UInt32
  package var maximumPayload: UInt32

  package init(minimum: UInt32, preferred: UInt32, maximumPayload: UInt32) {
    self.minimum = minimum
    self.preferred = preferred
    self.maximumPayload = maximumPayload
  }
}

/// Transmission flags, 16 bits (proto.md, "Transmission flags").
package struct TransmissionFlags: OptionSet, Hashable, Sendable {
  package let rawValue: UInt16

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let hasFlags = TransmissionFlags(rawValue: 1 << 0)
  package static let readOnly = TransmissionFlags(rawValue: 1 << 1)
  package static let sendFlush = TransmissionFlags(rawValue: 1 << 2)
  package static let sendFUA = TransmissionFlags(rawValue: 1 << 3)
  package static let rotational = TransmissionFlags(rawValue: 1 << 4)
  package static let sendTrim = TransmissionFlags(rawValue: 1 << 5)
  package static let sendWriteZeroes = TransmissionFlags(rawValue: 1 << 6)
  package static let sendDF = TransmissionFlags(rawValue: 1 << 7)
  package static let canMultiConn = TransmissionFlags(rawValue: 1 << 8)
  package static let sendResize = TransmissionFlags(rawValue: 1 << 9)
  package static let sendCache = TransmissionFlags(rawValue: 1 << 10)
  package static let sendFastZero = TransmissionFlags(rawValue: 1 << 11)
  package static let blockStatusPayload = TransmissionFlags(rawValue: 1 << 12)
}
