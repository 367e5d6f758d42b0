import NBDProtocol

extension RelayLedger {
  /// The longest time in which the log is not flushed, in nanoseconds.
  package static let oldestUnflushed: UInt64 = 5_000_000_000
  /// A request that waits longer is reported, in nanoseconds.
  package static let stallThreshold: UInt64 = 30_000_000_000

  /// A silent link was half closed: nothing more is sent on it. Its reads go out elsewhere at once; its writes stay with
  /// it until they are answered late, or until it is lost. NBD_ESHUTDOWN has the same effect by itself.
  package mutating func linkLeaving(_ id: LinkID) {
    guard let link = linkIndex(id), links[link].standing != .leaving else { return }
    links[link].standing = .leaving
    var index = links[link].inFlight.first
    var resent = 0
    while index != noSlot {
      let next = slots[index].next
      if leave(index) { resent += 1 }
      index = next
    }
    if resent > 0 { report(.resent(count: resent)) }
    settle()
  }

  /// `true` when it goes out elsewhere.
  private mutating func leave(_ index: SlotIndex) -> Bool {
    switch slots[index].role {
    case .request, .part:
      guard !slots[index].isModifying else { return false }
      moveElsewhere(index)
      return true
    case .ownFlush:
      slots[index].role = .abandoned
      flushing.own = noSlot
      return false
    // `settle` sees to the replay.
    case .replay, .abandoned: return false
    }
  }

  /// The request goes on in a slot of its own; the old one only recognises the late reply.
  private mutating func moveElsewhere(_ index: SlotIndex) {
    let moved = slots.take()
    let generation = slots[moved].generation
    slots[moved] = slots[index]
    slots[moved].generation = generation
    if slots[index].role == .part { abandonPiece(index) } else { slots[index].role = .abandoned }
    makeReady(moved)
  }

  /// Once a second.
  package mutating func tick(now: UInt64) {
    flushing.isLate = log.first != noSlot && elapsed(since: slots[log.first].time, now) >= RelayLedger.oldestUnflushed
    flushing.isFailing = false
    considerFlush()
    reportSilence(now: now)
    reportStall(now: now)
  }

  /// 0 for a time that is ahead, as when the engine reads its clock once for many requests.
  func elapsed(since: UInt64, _ now: UInt64) -> UInt64 { now > since ? now - since : 0 }

  private mutating func reportSilence(now: UInt64) {
    for index in links.indices where links[index].standing != .leaving {
      let isSilent = isSilent(links[index], now)
      guard isSilent != links[index].isSilent else { continue }
      links[index].isSilent = isSilent
      report(isSilent ? .silent(links[index].id) : .speaking(links[index].id))
    }
  }

  private func isSilent(_ link: Link, _ now: UInt64) -> Bool {
    guard let timeout = limits.requestTimeout, link.inFlight.first != noSlot else { return false }
    return elapsed(since: slots[link.inFlight.first].sentTime, now) >= timeout
  }

  private mutating func reportStall(now: UInt64) {
    let since = oldestUnanswered
    if let since, elapsed(since: since, now) >= RelayLedger.stallThreshold {
      if !isStalled { report(.stalled(since: since)) }
      isStalled = true
    } else if isStalled {
      isStalled = false
      report(.unstalled)
    }
  }

  /// When the oldest unanswered request of the kernel came, in nanoseconds.
  private var oldestUnanswered: UInt64? {
    guard taken > 0 else { return nil }
    var oldest: UInt64?
    for index in 0..<SlotIndex(truncatingIfNeeded: slots.count) where slots[index].role == .request {
      switch slots[index].state {
      case .waiting, .inFlight, .split: oldest = min(oldest ?? .max, slots[index].time)
      case .free, .kept, .released: break
      }
    }
    return oldest
  }
}
