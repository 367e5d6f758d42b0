import RelayModel

/// Limits, memory, and what is looked at once a second.
extension RelayEngine {
  /// In bytes: what a device may keep whatever the budget says.
  private static let ownAllowance = 1 << 20

  /// How much of the log's limit is at hand, in bytes.
  var granted: Int { min(settings.unflushedLimit, RelayEngine.ownAllowance + borrowed) }

  mutating func applyLimits() {
    var limits = LedgerLimits(unflushedBytes: max(granted, 0))
    limits.requestTimeout = settings.requestTimeout.map(\.clampedNanoseconds)
    if limits != ledger.limits { ledger.limits = limits }
  }

  mutating func use(_ settings: RelaySettings) {
    if settings.budget !== self.settings.budget {
      self.settings.budget.giveBack(borrowed)
      borrowed = 0
    }
    self.settings = settings
    giveBack(allBut: max(settings.unflushedLimit - RelayEngine.ownAllowance, 0))
    applyLimits()
  }

  private mutating func giveBack(allBut kept: Int) {
    guard borrowed > kept else { return }
    settings.budget.giveBack(borrowed - kept)
    borrowed = kept
  }

  /// Takes more of the budget when the log has filled a quarter of what there is: before a flush is needed.
  @inline(__always)
  mutating func borrow() {
    let bytes = ledger.unflushed.bytes
    guard bytes > granted / 4, granted < settings.unflushedLimit else { return }
    let step = min(settings.unflushedLimit - granted, granted)
    guard settings.budget.take(step) else { return }
    borrowed += step
    applyLimits()
  }

  /// Whether something will have to be done though nothing comes.
  var needsTick: Bool {
    kernel.pending.count > 0 || hasIdleMemory || borrowed > 0 || goingCount > 0 || change.isUnderWay
      || ledger.unflushed.entries > 0 || ledger.unanswered > 0 || ledger.inFlight > 0
  }

  mutating func tick() {
    nextTick = now + tickInterval
    ledger.tick(now: now)
    tellOfFence()
    if heldSince != 0, now > heldSince {
      counters.add(now - heldSince, to: .held)
      heldSince = now
    }
    returnBudget()
    trimMemory()
    if isShortOfMemory {
      // Few bytes of the log keep much memory: a flush lets go of it.
      ledger.limits.unflushedBytes = max(ledger.unflushed.bytes, 1)
    } else {
      applyLimits()
    }
    settle()
  }

  private mutating func returnBudget() {
    guard borrowed > 0, ledger.unflushed.bytes < granted / 16 else { return }
    giveBack(allBut: borrowed / 2 < RelayEngine.ownAllowance ? 0 : borrowed / 2)
    applyLimits()
  }

  /// Gives back what has not been used since the last tick.
  private mutating func trimMemory() {
    let isIdle = kernel.pending.count == 0 && ledger.unflushed.entries == 0
    hasIdleMemory = false
    if kernel.segment >= 0 {
      if isIdle, wasIdle, kernel.parsed == kernel.filled { kernel.leaveSegment(segments) } else { hasIdleMemory = true }
    }
    wasIdle = isIdle
    if segments.trim() { hasIdleMemory = true }
    var memory = segments.mapped
    for link in links {
      if link.pointee.owesKernel || link.pointee.input.trim() { hasIdleMemory = true }
      if link.pointee.pipe.trim() { hasIdleMemory = true }
      if let transport = link.pointee.transport, transport.trimMemory() { hasIdleMemory = true }
      memory += link.pointee.input.mapped
    }
    counters.set(.memory, memory)
  }
}
