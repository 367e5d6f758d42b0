/// The magic numbers of transmission (proto.md, "Transmission").
package enum TransmissionMagic {
  @inlinable package static var request: UInt32 { 0x2560_9513 }
  @inlinable package static var simpleReply: UInt32 { 0x6744_6698 }
  @inlinable package static var structuredReply: UInt32 { 0x668e_33ef }
  @inlinable package static var extendedRequest: UInt32 { 0x21e4_1c71 }
  @inlinable package static var extendedReply: UInt32 { 0x6e8a_278c }
}

/// What a request asks for (proto.md, "Request types"). Any value can arrive from a kernel newer than this client.
package struct CommandCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  package let rawValue: UInt16

  @inlinable
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  @inlinable package static var read: CommandCode { CommandCode(rawValue: 0) }
  @inlinable package static var write: CommandCode { CommandCode(rawValue: 1) }
  @inlinable package static var disconnect: CommandCode { CommandCode(rawValue: 2) }
  @inlinable package static var flush: CommandCode { CommandCode(rawValue: 3) }
  @inlinable package static var trim: CommandCode { CommandCode(rawValue: 4) }
  @inlinable package static var cache: CommandCode { CommandCode(rawValue: 5) }
  @inlinable package static var writeZeroes: CommandCode { CommandCode(rawValue: 6) }
  @inlinable package static var blockStatus: CommandCode { CommandCode(rawValue: 7) }

  @inlinable
  package static func == (one: CommandCode, other: CommandCode) -> Bool { one.rawValue == other.rawValue }

  /// The name in proto.md, such as `NBD_CMD_READ`, or `command 9`.
  package var description: String {
    switch self {
    case .read: "NBD_CMD_READ"
    case .write: "NBD_CMD_WRITE"
    case .disconnect: "NBD_CMD_DISC"
    case .flush: "NBD_CMD_FLUSH"
    case .trim: "NBD_CMD_TRIM"
    case .cache: "NBD_CMD_CACHE"
    case .writeZeroes: "NBD_CMD_WRITE_ZEROES"
    case .blockStatus: "NBD_CMD_BLOCK_STATUS"
    default: "command \(rawValue)"
    }
  }
}

/// Command flags, 16 bits (proto.md, "Command flags").
package struct CommandFlags: OptionSet, Hashable, Sendable {
  package let rawValue: UInt16

  @inlinable
  package init(rawValue: UInt16) { self.rawValue = rawValue }

  /// None: as `[]`, without the way through the standard library's generic code.
  @inlinable
  package init() { rawValue = 0 }

  @inlinable package static var fua: CommandFlags { CommandFlags(rawValue: 1 << 0) }
  @inlinable package static var noHole: CommandFlags { CommandFlags(rawValue: 1 << 1) }
  @inlinable package static var dontFragment: CommandFlags { CommandFlags(rawValue: 1 << 2) }
  @inlinable package static var requestOne: CommandFlags { CommandFlags(rawValue: 1 << 3) }
  @inlinable package static var fastZero: CommandFlags { CommandFlags(rawValue: 1 << 4) }
  @inlinable package static var payloadLength: CommandFlags { CommandFlags(rawValue: 1 << 5) }
}

/// Errors of transmission (proto.md, "Error values").
///
/// Their numbers are those of Linux's generic errno (x86, Arm, RISC-V, POWER, s390), so the mapping is the identity there.
package enum ErrorCode: UInt32, CaseIterable, Sendable, CustomStringConvertible {
  case notPermitted = 1
  case inputOutput = 5
  case noMemory = 12
  case invalid = 22
  case noSpace = 28
  case overflow = 75
  case notSupported = 95
  case shutdown = 108

  /// The error of a reply; `nil` for success. A number that proto.md does not have counts as `invalid`.
  package init?(reply error: UInt32) {
    guard error != 0 else { return nil }
    self = ErrorCode(rawValue: error) ?? .invalid
  }

  /// The error to answer for a failed system call; what has no counterpart becomes `invalid`, as in QEMU's server.
  package init(errno: Int32) {
    switch errno {
    case 1, 30: self = .notPermitted  // EPERM, EROFS
    case 5: self = .inputOutput
    case 12: self = .noMemory
    case 27, 28, 122: self = .noSpace  // EFBIG, ENOSPC, EDQUOT
    case 75: self = .overflow
    case 95: self = .notSupported
    case 108: self = .shutdown
    default: self = .invalid
    }
  }

  /// Linux's generic errno for it.
  package var errno: Int32 { Int32(truncatingIfNeeded: rawValue) }

  /// The name in proto.md, such as `NBD_ENOSPC`.
  package var description: String {
    switch self {
    case .notPermitted: "NBD_EPERM"
    case .inputOutput: "NBD_EIO"
    case .noMemory: "NBD_ENOMEM"
    case .invalid: "NBD_EINVAL"
    case .noSpace: "NBD_ENOSPC"
    case .overflow: "NBD_EOVERFLOW"
    case .notSupported: "NBD_ENOTSUP"
    case .shutdown: "NBD_ESHUTDOWN"
    }
  }
}
