import NBDProtocol

extension RelayLedger {
  /// Says whether a link takes more for now; a link that has joined does.
  package mutating func setWritable(_ link: LinkID, _ isWritable: Bool) {
    guard let index = linkIndex(link) else { return }
    links[index].isWritable = isWritable
  }

  /// What to put on a link now; `nil`: nothing, until something else happens.
  package mutating func nextTransmission(now: UInt64) -> Transmission? {
    switch phase {
    case .flowing: nextRequest(now: now)
    case .replaying(let replay): nextReplay(replay, now: now)
    case .holding, .givenUp: nil
    }
  }

  private mutating func nextRequest(now: UInt64) -> Transmission? {
    guard !ready.isEmpty || flushing.isDue, let link = idlestLink() else { return nil }
    if flushing.isDue, links[link].server.canFlush { return sendOwnFlush(link, now: now) }
    while !ready.isEmpty {
      let index = ready.first
      guard needsRoom(index) else { return send(index, on: link, now: now) }
      if roomless.isEmpty, hasRoom(index, on: link) {
        reserve(index)
        return send(index, on: link, now: now)
      }
      // One that waits for room holds all later writes back, so that a long one is not starved by short ones.
      slots.remove(index, from: &ready)
      slots[index].state = .waiting(.roomless)
      slots.append(index, to: &roomless)
      considerFlush()
      if flushing.isDue, links[link].server.canFlush { return sendOwnFlush(link, now: now) }
    }
    return nil
  }

  /// Among those that take requests, the one with the fewest bytes in flight; the first of them when they are equal, so
  /// that a lone request always takes the same.
  private func idlestLink() -> Int? {
    var idlest: Int?
    var fewest = Int.max
    for index in links.indices where links[index].standing == .proven && links[index].isWritable {
      guard links[index].bytes < fewest else { continue }
      fewest = links[index].bytes
      idlest = index
    }
    return idlest
  }

  /// The slot is the first of `ready`.
  private mutating func send(_ index: SlotIndex, on link: Int, now: UInt64) -> Transmission? {
    guard slots[index].role == .request, slots[index].cursor == 0, fits(index, links[link]) else {
      return sendPart(of: index, on: link, now: now)
    }
    slots.remove(index, from: &ready)
    return put(index, on: link, isWhole: true, now: now)
  }

  /// The slot is in no list.
  mutating func put(_ index: SlotIndex, on link: Int, isWhole: Bool, now: UInt64) -> Transmission {
    slots[index].state = .inFlight(links[link].id)
    slots[index].sentOrder = tickCount()
    slots[index].sentTime = now
    slots.append(index, to: &links[link].inFlight)
    let kind = slots[index].kind
    let payload = kind.isWrite ? slots[index].payload : nil
    if kind.carriesPayload { links[link].bytes += Int(slots[index].length) }
    if kind.isModifying { links[link].modifying += 1 }
    if kind.isRead, slots[index].length >= RelayLedger.longRead { links[link].longReads += 1 }
    return Transmission(
      link: links[link].id, cookie: slots.cookie(of: index), command: kind.command, flags: slots[index].flags,
      offset: slots[index].offset, length: slots[index].length, payload: payload, isWhole: isWhole && payload != nil)
  }

  /// The reverse of `put`: off the link's list, into none.
  mutating func takeOff(_ index: SlotIndex, _ link: Int) {
    slots.remove(index, from: &links[link].inFlight)
    let kind = slots[index].kind
    if kind.carriesPayload { links[link].bytes -= Int(slots[index].length) }
    if kind.isModifying { links[link].modifying -= 1 }
    if kind.isRead, slots[index].length >= RelayLedger.longRead { links[link].longReads -= 1 }
    if slots[index].error != 0 {
      slots[index].error = 0
      links[link].turnedAway -= 1
    }
  }
}
