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

  var state = State.free
  var role = Role.request
  /// Of the one who uses the slot: a cookie of a former one is not taken for it.
  var generation: UInt32 = 0
  var previous = noSlot
  var next = noSlot

  var command = CommandCode.read
  var flags: CommandFlags = []
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
  /// In nanoseconds: of the last sending.
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
  /// Of what is sent in parts: the first error.
  var error: UInt32 = 0

  var isModifying: Bool { command.isModifying }
  /// One past the last byte; saturated, as a kernel's word is not proof that the sum exists.
  var end: UInt64 {
    let (sum, overflow) = offset.addingReportingOverflow(UInt64(length))
    return overflow ? .max : sum
  }
  /// What the log holds of it in memory.
  var payloadLength: Int { payload == nil ? 0 : Int(length) }
}

extension CommandCode {
  /// It changes what is read later.
  @inline(__always)
  var isModifying: Bool { self == .write || self == .trim || self == .writeZeroes }
  /// It is split at the server's maximum payload.
  @inline(__always)
  var carriesPayload: Bool { self == .write || self == .read }
}
