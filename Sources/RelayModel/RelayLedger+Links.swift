import NBDProtocol

extension RelayLedger {
  /// A link was negotiated, and is ready for requests.
  package mutating func linkJoined(_ id: LinkID, _ server: ServerLimits, now: UInt64) {
    guard linkIndex(id) == nil else { return }
    links.append(Link(id: id, server: server, joined: tickCount(), standing: .probation))
    if phase == .flowing { proveUnneeded() }
    settle()
  }

  /// A link is gone: what was out on it is sent again on another. An unknown link changes nothing.
  package mutating func linkLost(_ id: LinkID, now: UInt64) {
    guard let index = linkIndex(id) else { return }
    let link = links.remove(at: index)
    // Others are left: a FLUSH on one of them proves that what was acknowledged is safe, before anything is sent again.
    let isGated = phase == .flowing && !log.isEmpty && links.contains { $0.standing == .proven }
    if isGated { flushing.gate = tickCount() }
    var list = link.inFlight
    var resent = 0
    while let slot = slots.popFirst(of: &list) {
      slots[slot].error = 0
      switch slots[slot].role {
      case .request:
        unreserve(slot)
        requeue(slot, isGated: isGated && !slots[slot].kind.isFlush)
        resent += 1
      case .part:
        partsOut -= 1
        if partLost(slot, isGated: isGated) { resent += 1 }
      case .ownFlush:
        flushing.own = noSlot
        slots.free(slot)
      case .replay:
        partsOut -= 1
        slots.free(slot)
      case .abandoned:
        releaseClaim(slot)
        unreserve(slot)
        discard(slot)
      }
    }
    if resent > 0 { report(.resent(count: resent)) }
    // What was lost for good has left room.
    makeRoomlessReady()
    settle()
  }

  private mutating func requeue(_ index: SlotIndex, isGated: Bool) {
    guard isGated else { return makeReady(index) }
    slots[index].state = .waiting(.gated)
    slots.append(index, to: &gated)
  }

  /// `true` when it will be sent again.
  private mutating func partLost(_ index: SlotIndex, isGated: Bool) -> Bool {
    let parent = slots[index].parent
    // Of a request that nobody waits for, or that has failed, nothing is sent again.
    guard slots[parent].role == .abandoned || slots[parent].error != 0 else {
      requeue(index, isGated: isGated)
      return true
    }
    slots.free(index)
    slots[parent].outstanding -= 1
    if isComplete(parent) { endIncomplete(parent) }
    return false
  }

  /// Brings the phase in line with the links; after each change of one's standing.
  mutating func settle() {
    switch phase {
    case .flowing:
      if !links.contains(where: { $0.standing == .proven }) { hold() }
    case .replaying(let replay):
      if !links.contains(where: { $0.id == replay.link && $0.standing == .probation }) {
        abandonReplay()
        tellLosses()
        phase = .holding
      }
    case .holding: break
    case .givenUp:
      if links.contains(where: { $0.standing == .probation }) { phase = .holding }
    }
    if phase == .holding { resume() }
    considerFlush()
  }

  /// The last proven link is gone or goes. What a link that goes still says of a FLUSH of ours is of no use.
  private mutating func hold() {
    if flushing.own != noSlot {
      slots[flushing.own].role = .abandoned
      flushing.own = noSlot
    }
    flushing.pace.forget()
    makeGatedReady()
    makeRoomlessReady()
    phase = .holding
  }

  /// Begins with the newest link, which is the least likely to lead to a server that is gone: the log first. Not before
  /// each write on a link that goes is answered or lost: a success that came later would stand in the log after what
  /// the replay has written over it, and the write itself could land on top of newer ones.
  private mutating func resume() {
    guard !isFenced, let index = links.lastIndex(where: { $0.standing == .probation }),
      !links.contains(where: { $0.standing == .leaving && $0.modifying > 0 })
    else { return }
    restartSplitWrites()
    startReplay(links[index].id)
  }

  /// Sends nothing until `unfence`, as while a link that goes has writes: such a link is one of a former process. Before any
  /// link has joined.
  package mutating func fence() {
    guard links.isEmpty, phase == .holding else { return }
    isFenced = true
  }

  /// Nothing of a former process can land any more.
  package mutating func unfence() {
    isFenced = false
    settle()
  }

  // Proof that links lead to one and the same server.

  /// A FLUSH can prove it: the proven link and this one are allowed side by side.
  private func isProvable(_ link: Link) -> Bool {
    link.standing == .probation && link.server.canMultiConn
      && !links.contains { $0.standing == .proven && !$0.server.canMultiConn }
  }

  var hasProvable: Bool { links.contains { isProvable($0) } }

  /// A FLUSH that was sent at `order` on a proven link has succeeded: its server lived after those links had joined, so
  /// they lead to the same one.
  mutating func proveJoined(before order: UInt64) {
    for index in links.indices where links[index].joined < order && isProvable(links[index]) {
      links[index].standing = .proven
    }
    proveUnneeded()
  }

  /// Nothing is acknowledged and unsafe, in the log or as the part of a split write, and nothing that is out on an older
  /// link could become so: there is nothing that a server could have forgotten, and whatever an older link acknowledges
  /// from now on was sent after these had joined.
  ///
  /// Where nothing is kept, nothing has to be proven.
  mutating func proveUnneeded() {
    guard log.isEmpty else { return }
    for index in links.indices where reservedEntries == 0 || !keeps(links[index].server) {
      if isProvable(links[index]) { links[index].standing = .proven }
    }
  }
}
