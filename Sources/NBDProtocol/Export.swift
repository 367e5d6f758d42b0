/// What a server says of one export when negotiation ends (proto.md, "Option reply types", NBD_REP_INFO).
package struct ExportInfo: Equatable, Sendable, Codable {
  /// The name that was asked for.
  package var name: String
  /// In bytes, as the server said it.
  package var size: UInt64
  package var flags: TransmissionFlags
  /// `nil`: the server did not say. proto.md then has a client ask for multiples of 512 and at most 32 MiB
  /// ("Size constraints"); see `effectiveBlockSizes`.
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

  /// What to keep to: the server's own words, or without them 1, 512 and 32 MiB.
  package var effectiveBlockSizes: BlockSizes { blockSizes ?? .unknown }
}

/// One export in a server's list (NBD_REP_SERVER).
package struct ExportEntry: Equatable, Sendable {
  /// Valid UTF-8 without NUL, at most 4096 bytes; may be empty (the default export).
  package var name: String
  /// Text for people, at most 4096 bytes, as the server sent it (quote it before it is shown); `nil` where it sent none.
  package var description: String?

  package init(name: String, description: String? = nil) {
    self.name = name
    self.description = description
  }
}

/// The server's block size constraints in bytes (NBD_INFO_BLOCK_SIZE), checked: `minimum` and `preferred` are powers
/// of two, `minimum <= 65536`, `max(minimum, 512) <= preferred`, `minimum <= maximumPayload`.
package struct BlockSizes: Equatable, Sendable, Codable {
  /// What proto.md has a careful client assume of a server that does not say.
  package static let unknown = BlockSizes(minimum: 1, preferred: 512, maximumPayload: 32 << 20)

  package var minimum: UInt32
  package var preferred: UInt32
  package var maximumPayload: UInt32

  package init(minimum: UInt32, preferred: UInt32, maximumPayload: UInt32) {
    self.minimum = minimum
    self.preferred = preferred
    self.maximumPayload = maximumPayload
  }

  /// Checks what a server announced (proto.md, "Size constraints"); `nil` where it contradicts itself, which is an error
  /// here as in QEMU, since requests made by such sizes would be refused or torn.
  ///
  /// Two old readings of the specification are let through: a preferred size below 512 counts as 512, being a hint; and
  /// a maximum below the preferred size is taken where the whole export is no larger.
  package init?(announced minimum: UInt32, _ preferred: UInt32, _ maximumPayload: UInt32, exportSize: UInt64) {
    guard minimum.nonzeroBitCount == 1, minimum <= 65_536, preferred.nonzeroBitCount == 1, preferred >= minimum,
      maximumPayload >= minimum, UInt64(maximumPayload) >= Swift.min(UInt64(preferred), exportSize)
    else { return nil }
    self.init(minimum: minimum, preferred: max(preferred, 512), maximumPayload: maximumPayload)
  }
}

/// Transmission flags, 16 bits (proto.md, "Transmission flags").
package struct TransmissionFlags: OptionSet, Hashable, Sendable, Codable {
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
