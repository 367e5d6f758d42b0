/// The magic numbers of transmission (proto.md, "Transmission").
package enum TransmissionMagic {
  package static let request: UInt32 = 0x2560_9513
  package static let simpleReply: UInt32 = 0x6744_6698
  package static let structuredReply: UInt32 = 0x668e_33ef
  package static let extendedRequest: UInt32 = 0x21e4_1c71
  package static let extendedReply: UInt32 = 0x6e8a_278c
}

/// What a request asks for (proto.md, "Request types"). Any value can arrive from a kernel newer than this client.
package struct CommandCode: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
  package let rawValue: UInt16

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let read = CommandCode(rawValue: 0)
  package static let write = CommandCode(rawValue: 1)
  package static let disconnect = CommandCode(rawValue: 2)
  package static let flush = CommandCode(rawValue: 3)
  package static let trim = CommandCode(rawValue: 4)
  package static let cache = CommandCode(rawValue: 5)
  package static let writeZeroes = CommandCode(rawValue: 6)
  package static let blockStatus = CommandCode(rawValue: 7)

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

  package init(rawValue: UInt16) { self.rawValue = rawValue }

  package static let fua = CommandFlags(rawValue: 1 << 0)
  package static let noHole = CommandFlags(rawValue: 1 << 1)
  package static let dontFragment = CommandFlags(rawValue: 1 << 2)
  package static let requestOne = CommandFlags(rawValue: 1 << 3)
  package static let fastZero = CommandFlags(rawValue: 1 << 4)
  package static let payloadLength = CommandFlags(rawValue: 1 << 5)
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
