import NBDProtocol

extension RelayLedger {
  /// The reconnect-timeout has passed: EIO for all that is unanswered, and for all that comes until a link joins. The
  /// log is kept. Changes nothing while a link is there.
  package mutating func giveUp(now: UInt64) {
    guard phase == .holding, !links.contains(where: { $0.standing == .probation }) else { return }
    abandonAll { ledger, cookie in ledger.answer(cookie, ErrorCode.inputOutput.rawValue) }
    phase = .givenUp
  }

  /// Takes no more from the kernel, and flushes the log once all is answered.
  package mutating func drain() {
    isDraining = true
    considerFlush()
  }

  /// Takes requests again.
  package mutating func undrain() {
    isDraining = false
    considerFlush()
  }

  /// All is answered, no write is out any more, and the log is flushed.
  package var isDrained: Bool {
    taken == 0 && log.isEmpty && flushing.own == noSlot && !links.contains { $0.modifying > 0 }
  }

  /// An error of the server that the kernel has not been told, and will be at its next FLUSH.
  package var owesError: Bool { owed.toFlush }

  /// The kernel's socket was replaced: it waits for no answer to what it has asked before, and asks again for what it
  /// still wants. What is on a link is tracked until its reply, and writes of the same range wait for it.
  package mutating func kernelReset() {
    abandonAll { _, _ in }
    forgetAnswers()
    owed.takeBack()
  }

  /// Nobody waits any more for what was taken; `each` hears the kernel's cookies.
  private mutating func abandonAll(_ each: (inout RelayLedger, UInt64) -> Void) {
    // The blocked ones first: else those before them would make them ready.
    while let index = slots.popFirst(of: &blocked) { abandonWaiting(index, each) }
    while let index = slots.popFirst(of: &gated) { abandonWaiting(index, each) }
    while let index = slots.popFirst(of: &roomless) { abandonWaiting(index, each) }
    while let index = slots.popFirst(of: &ready) { abandonWaiting(index, each) }
    flushing.gate = nil
    var index = split.first
    while index != noSlot {
      let next = slots[index].next
      abandonSplit(index, each)
      index = next
    }
    for link in links {
      var index = link.inFlight.first
      while index != noSlot {
        if slots[index].role == .request {
          each(&self, slots[index].kernelCookie)
          slots[index].role = .abandoned
        }
        index = slots[index].next
      }
    }
    taken = 0
    considerFlush()
  }

  /// The slot is in no list.
  private mutating func abandonWaiting(_ index: SlotIndex, _ each: (inout RelayLedger, UInt64) -> Void) {
    if slots[index].role == .part {
      slots[slots[index].parent].outstanding -= 1
      return slots.free(index)
    }
    guard slots[index].outstanding > 0 else {
      each(&self, slots[index].kernelCookie)
      releaseClaim(index)
      unreserve(index)
      return discard(index)
    }
    slots[index].state = .split
    slots[index].cursor = slots[index].length
    slots.append(index, to: &split)
  }

  private mutating func abandonSplit(_ index: SlotIndex, _ each: (inout RelayLedger, UInt64) -> Void) {
    if slots[index].role == .request {
      each(&self, slots[index].kernelCookie)
      slots[index].role = .abandoned
    }
    if isComplete(index) { endIncomplete(index) }
  }

  /// A split request of which nothing is out any more, and which nobody waits for or which has failed.
  mutating func endIncomplete(_ parent: SlotIndex) {
    slots.remove(parent, from: &split)
    if slots[parent].role == .request {
      taken -= 1
      answer(slots[parent].kernelCookie, slots[parent].error)
    }
    releaseClaim(parent)
    unreserve(parent)
    discard(parent)
  }
}
