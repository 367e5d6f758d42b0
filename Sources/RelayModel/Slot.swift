import NBDProtocol

/// A place in the slot table; `noSlot` is none.
typealias SlotIndex = Int32
let noSlot: SlotIndex = -1

/// One thing that the ledger tracks: a request of the kernel, a part of one, a FLUSH of our own, a kept write.
struct Slot {
  /// In which list it is.
  enum State: Equatable {
    /// In the free list. Can become: any.
    case free
    /// Not on a link. Can become: `inFlight`, `split`, `free`, `released`, another queue.
    case waiting(Queue)
    /// Sent, unanswered, in that link's list. Can become: `waiting`, `kept`, `released`, `free`.
    case inFlight(LinkID)
    /// All of it is out, or waits, in parts that are slots of their own. Can become: `waiting` (all of it is sent
    /// again), `kept`, `released`, `free`.
    case split
    /// Acknowledged and not yet flushed, in the log. Can become: `released`, `free`.
    case kept
    /// The engine has not yet been told that the payload is free. Can become: `free`.
    case released
  }

  enum Queue: Equatable {
    /// Goes out next, in order of arrival. Can become: `roomless`.
    case ready
    /// Overlaps an earlier write that is unanswered. Can become: `ready`.
    case blocked
    /// The log has no room for it. Can become: `ready`.
    case roomless
    /// Was out on a lost link, and waits for a FLUSH on one that is left. Can become: `ready`.
    case gated
  }

  enum Role: Equatable {
    /// The kernel waits for its answer.
    case request
    /// Of the request in the slot `parent`.
    case part
    case ownFlush
    /// Of the kept write in the slot `parent`, sent again.
    case replay
    /// Nobody waits for the answer, but it is out on a link (or its parts are).
    case abandoned
  }

  /// The command, known to the compiler: comparing the protocol's own type is a generic call in another module.
  enum Kind {
    case read
    case write
    case flush
    case trim
    case writeZeroes
    case other(UInt16)
  }

  var state = State.free
  var role = Role.request
  /// Of the one who uses the slot: a cookie of a former one is not taken for it.
  var generation: UInt32 = 0
  var previous = noSlot
  var next = noSlot

  var kind = Kind.read
  var flags = CommandFlags(rawValue: 0)
  var length: UInt32 = 0
  var offset: UInt64 = 0
  var kernelCookie: UInt64 = 0
  var payload: PayloadLocation?

  /// On the ledger's own count: of arrival; in the log, of the acknowledgement.
  var order: UInt64 = 0
  /// On the ledger's own count: of the last sending.
  var sentOrder: UInt64 = 0
  /// In nanoseconds: of arrival; in the log, of the acknowledgement.
  var time: UInt64 = 0
  /// In nanoseconds: of the last sending, be it of a part; 0: it was never sent.
  var sentTime: UInt64 = 0

  /// Its place among the claims; -1: none.
  var claim: Int32 = -1
  /// Earlier unanswered writes that it overlaps.
  var blockers: Int32 = 0
  /// Counted among what the log must have room for.
  var isReserved = false

  /// Of a part or a replay; else `noSlot`.
  var parent = noSlot
  /// Of what is sent in parts: bytes for which a part was made.
  var cursor: UInt32 = 0
  /// Of what is sent in parts: parts that are not answered.
  var outstanding: Int32 = 0
  /// Of what is sent in parts: the first error. Of what is in flight: NBD_ESHUTDOWN, when that has come.
  var error: UInt32 = 0

  var isFUA: Bool { flags.rawValue & 1 != 0 }
  /// One past the last byte; saturated, as a kernel's word is not proof that the sum exists.
  var end: UInt64 {
    let (sum, overflow) = offset.addingReportingOverflow(UInt64(length))
    return overflow ? .max : sum
  }
  /// What the log holds of it in memory.
  var payloadLength: Int { payload == nil ? 0 : Int(length) }
}

extension Slot.Kind {
  init(_ command: CommandCode) {
    switch command.rawValue {
    case 0: self = .read
    case 1: self = .write
    case 3: self = .flush
    case 4: self = .trim
    case 6: self = .writeZeroes
    default: self = .other(command.rawValue)
    }
  }

  var command: CommandCode {
    switch self {
    case .read: CommandCode(rawValue: 0)
    case .write: CommandCode(rawValue: 1)
    case .flush: CommandCode(rawValue: 3)
    case .trim: CommandCode(rawValue: 4)
    case .writeZeroes: CommandCode(rawValue: 6)
    case .other(let code): CommandCode(rawValue: code)
    }
  }

  /// It changes what is read later.
  var isModifying: Bool {
    switch self {
    case .write, .trim, .writeZeroes: true
    case .read, .flush, .other: false
    }
  }

  /// It is split at the server's maximum payload.
  var carriesPayload: Bool {
    switch self {
    case .read, .write: true
    case .flush, .trim, .writeZeroes, .other: false
    }
  }

  var isRead: Bool { if case .read = self { true } else { false } }
  var isWrite: Bool { if case .write = self { true } else { false } }
  var isFlush: Bool { if case .flush = self { true } else { false } }
  var isTrim: Bool { if case .trim = self { true } else { false } }
}

extension Slot {
  var isModifying: Bool { kind.isModifying }

  func isInFlight(on link: LinkID) -> Bool {
    if case .inFlight(let its) = state { its == link } else { false }
  }
}
