package import NBDProtocol

/// An acknowledged write, trim or zeroes that no FLUSH has covered, as one ledger leaves it to the next.
package struct LoggedWrite: Equatable, Sendable {
  package var command: CommandCode
  package var flags: CommandFlags
  package var offset: UInt64
  package var length: UInt32
  /// The `length` bytes of a WRITE; else `nil`.
  package var payload: PayloadLocation?

  package init(
    _ command: CommandCode, flags: CommandFlags = [], offset: UInt64, length: UInt32, payload: PayloadLocation? = nil
  ) {
    self.command = command
    self.flags = flags
    self.offset = offset
    self.length = length
    self.payload = payload
  }

  /// It is one that a log can hold.
  var isSound: Bool {
    let kind = Slot.Kind(command)
    return kind.isModifying && kind.isWrite == (payload != nil)
  }
}

/// What one ledger leaves to the one of the next process: the log, and the errors that the kernel has not been told.
///
/// What is unanswered is not among it. The kernel sends that again when it has a new socket, and so after the log, which
/// goes to the first link before all else: in the order in which it was first sent.
extension RelayLedger {
  /// The log, in the order in which a replay must repeat it.
  package var loggedWrites: [LoggedWrite] {
    var writes: [LoggedWrite] = []
    writes.reserveCapacity(log.count)
    var index = log.first
    while index != noSlot {
      let slot = slots[index]
      writes.append(
        LoggedWrite(
          slot.kind.command, flags: slot.flags, offset: slot.offset, length: slot.length, payload: slot.payload))
      index = slot.next
    }
    return writes
  }

  /// Errors that the kernel is to be told, also those that it was told in answers it may not have got.
  package var errorsOwed: OwedErrors {
    var errors = owed
    errors.takeBack()
    return errors
  }

  /// Takes over what a former ledger has left, as if it had all been acknowledged here; before any link has joined and
  /// any request has come. `false`, and nothing has changed: there was one, or a write is none.
  ///
  /// The payloads are the ledger's until `nextReleased` gives them back. They count against the limits as others do, and
  /// may be above them: then writes wait for a FLUSH.
  package mutating func inherit(_ writes: [LoggedWrite], owing errors: OwedErrors, now: UInt64) -> Bool {
    guard links.isEmpty, log.isEmpty, taken == 0, phase == .holding, writes.allSatisfy(\.isSound) else { return false }
    for write in writes {
      let index = slots.take()
      slots[index].kind = Slot.Kind(write.command)
      slots[index].flags = write.flags
      slots[index].offset = write.offset
      slots[index].length = write.length
      slots[index].payload = write.payload
      slots[index].state = .kept
      slots[index].order = tickCount()
      slots[index].time = now
      slots.append(index, to: &log)
      loggedBytes += slots[index].payloadLength
    }
    owed = errors
    return true
  }

  /// Requests of the kernel go out: what was inherited has been sent to the server that gets them.
  package var isFlowing: Bool { phase == .flowing }

  /// The kernel has got all answers so far.
  @inline(__always)
  package mutating func answersSent() { owed.heard() }
}
