import NBDProtocol

/// When a FLUSH of our own is due.
struct Flushing {
  /// The one in flight, or `noSlot`.
  var own = noSlot
  /// One should go out as soon as a link takes it.
  var isDue = false
  /// The oldest of the log is too old.
  var isLate = false
  /// The last one failed: only what can't wait asks for another before the next tick.
  var isFailing = false
  /// What is gated waits for a FLUSH that is sent after this, on the ledger's own count.
  var gate: UInt64?
  /// How soon one is due for what the log holds.
  var pace = FlushPace()
}

extension RelayLedger {
  /// Decides anew whether a FLUSH of our own is due.
  mutating func considerFlush() {
    flushing.isDue = flushing.own == noSlot && phase == .flowing && wantsFlush
  }

  private var wantsFlush: Bool {
    if !roomless.isEmpty, !log.isEmpty { return true }
    if flushing.isFailing { return false }
    if flushing.gate != nil { return true }
    if hasProvable { return true }
    guard !log.isEmpty else { return false }
    return flushing.isLate || isLogLong || (isDraining && taken == 0)
  }

  /// At half of a limit, so that writes need not wait; earlier where that costs the server next to nothing.
  var isLogLong: Bool {
    if log.count * 2 >= limits.unflushedEntries || loggedBytes * 2 >= limits.unflushedBytes { return true }
    return flushing.pace.isEarly && (log.count >= FlushPace.earlyEntries || loggedBytes >= FlushPace.earlyBytes)
  }

  mutating func sendOwnFlush(_ link: Int, now: UInt64) -> Transmission {
    let index = slots.take()
    slots[index].role = .ownFlush
    slots[index].kind = .flush
    flushing.own = index
    flushing.isDue = false
    let filling = log.isEmpty ? 0 : elapsed(since: slots[log.first].time, now)
    flushing.pace.flushSent(bytes: loggedBytes, entries: log.count, filling: filling)
    return put(index, on: link, isWhole: false, now: now)
  }

  mutating func ownFlushAnswered(_ index: SlotIndex, _ link: Int, error: UInt32, now: UInt64) {
    if error == 0 {
      flushing.pace.flushed(in: elapsed(since: slots[index].sentTime, now))
    } else {
      flushing.pace.forget()
      flushing.isFailing = true
      owed.dataLost()
      report(.flushFailed(error: error))
      // Nothing makes room for them, and to wait for ever is worse than an error.
      failRoomless(error)
    }
    flushAnswered(sent: slots[index].sentOrder, link, error: error)
  }

  /// A FLUSH, ours or the kernel's, was sent at `sent` and has its reply.
  mutating func flushAnswered(sent: UInt64, _ link: Int, error: UInt32) {
    // From a link that goes it says nothing about the server that is spoken to now.
    guard phase == .flowing, links[link].standing == .proven else { return considerFlush() }
    if let gate = flushing.gate, sent > gate { makeGatedReady() }
    if error == 0 {
      dropFromLog(before: sent)
      flushing.isLate = false
      flushing.isFailing = false
      proveJoined(before: sent)
      makeRoomlessReady()
    }
    considerFlush()
  }

  private mutating func failRoomless(_ error: UInt32) {
    while let index = slots.popFirst(of: &roomless) {
      answer(slots[index].kernelCookie, error)
      taken -= 1
      releaseClaim(index)
      discard(index)
    }
  }
}
