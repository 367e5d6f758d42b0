package import NBDProtocol

extension RelayLedger {
  /// `false`: read no more from the kernel for now.
  package var acceptsRequests: Bool { !isDraining && taken < limits.requests }

  /// Takes a request of the kernel, also when `acceptsRequests` is `false`.
  ///
  /// NBD_CMD_DISC is not a request in this sense: it is ignored, its end is the engine's to arrange.
  package mutating func accept(_ request: Request, payload: PayloadLocation?, now: UInt64) {
    let index = slots.take()
    slots[index].payload = payload
    if request.command.rawValue == CommandCode.disconnect.rawValue { return discard(index) }
    if case .givenUp = phase {
      answer(request.cookie, ErrorCode.inputOutput.rawValue)
      return discard(index)
    }
    taken += 1
    slots[index].kind = Slot.Kind(request.command)
    slots[index].flags = request.flags
    slots[index].length = request.length
    slots[index].offset = request.offset
    slots[index].kernelCookie = request.cookie
    slots[index].order = tickCount()
    slots[index].time = now
    if slots[index].isModifying, claim(index) > 0 {
      slots[index].state = .waiting(.blocked)
      slots.append(index, to: &blocked)
    } else {
      slots[index].state = .waiting(.ready)
      slots.append(index, to: &ready)
    }
  }

  /// Enters a write among the claims, and says how many unanswered ones it overlaps.
  private mutating func claim(_ index: SlotIndex) -> Int32 {
    let start = slots[index].offset
    let end = slots[index].end
    let blockers = claims.overlaps(start, end)
    slots[index].blockers = blockers
    slots[index].claim = claims.add(start, end, index)
    return blockers
  }

  /// The write is answered, or will never be: what has waited for its range may go. Once for each claim.
  mutating func releaseClaim(_ index: SlotIndex) {
    let place = slots[index].claim
    guard place >= 0 else { return }
    slots[index].claim = -1
    let moved = claims.remove(at: place)
    if moved != noSlot { slots[moved].claim = place }
    guard !blocked.isEmpty else { return }
    unblock(slots[index].offset, slots[index].end, after: slots[index].order)
  }

  /// Of the blocked ones only those that came later have counted this range as a blocker.
  private mutating func unblock(_ start: UInt64, _ end: UInt64, after order: UInt64) {
    var index = blocked.first
    while index != noSlot {
      let next = slots[index].next
      if slots[index].order > order, slots[index].offset < end, start < slots[index].end {
        slots[index].blockers -= 1
        if slots[index].blockers == 0 {
          slots.remove(index, from: &blocked)
          makeReady(index)
        }
      }
      index = next
    }
  }

  /// Must be in no list.
  mutating func makeReady(_ index: SlotIndex) {
    slots[index].state = .waiting(.ready)
    slots.insert(index, byOrderInto: &ready)
  }

  /// What waited for room in the log asks again.
  mutating func makeRoomlessReady() {
    while let index = slots.popFirst(of: &roomless) { makeReady(index) }
  }

  /// What waited for proof that the log is safe goes out.
  mutating func makeGatedReady() {
    flushing.gate = nil
    while let index = slots.popFirst(of: &gated) { makeReady(index) }
  }
}
