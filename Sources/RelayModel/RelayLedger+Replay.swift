import NBDProtocol

/// The log on its way to a new server.
struct Replay: Equatable {
  let link: LinkID
  /// The next to send, or `noSlot`.
  var cursor: SlotIndex
  /// Entries that are in flight, with all of their parts or some.
  var outstanding = 0
  var count = 0
  var bytes = 0
}

extension RelayLedger {
  mutating func startReplay(_ link: LinkID) {
    replayClaims.removeAll()
    var index = log.first
    while index != noSlot {
      slots[index].cursor = 0
      slots[index].outstanding = 0
      slots[index].error = 0
      slots[index].claim = -1
      index = slots[index].next
    }
    let replay = Replay(link: link, cursor: log.first)
    phase = .replaying(replay)
    if log.isEmpty { finish(replay) }
  }

  /// In the order of the log; one that overlaps one in flight waits, and all behind it.
  mutating func nextReplay(_ replay: Replay, now: UInt64) -> Transmission? {
    let entry = replay.cursor
    guard entry != noSlot, hasRoomForPart, let link = linkIndex(replay.link), links[link].isWritable else { return nil }
    var replay = replay
    if slots[entry].cursor == 0 {
      let start = slots[entry].offset
      let end = slots[entry].end
      guard replayClaims.overlaps(start, end) == 0 else { return nil }
      slots[entry].claim = replayClaims.add(start, end, entry)
      replay.outstanding += 1
    }
    let rest = slots[entry].length - slots[entry].cursor
    let isWhole = slots[entry].cursor == 0 && fits(entry, links[link])
    let length =
      fits(entry, links[link])
      ? rest : partLength(at: slots[entry].offset &+ UInt64(slots[entry].cursor), rest, links[link])
    let piece = makePiece(.replay, of: entry, length)
    // Was possible then; need not be now.
    slots[piece].flags.remove(.fastZero)
    if slots[entry].cursor == slots[entry].length { replay.cursor = slots[entry].next }
    partsOut += 1
    phase = .replaying(replay)
    return put(piece, on: link, isWhole: isWhole, now: now)
  }

  /// A part of a kept write has its reply, and is off its link.
  mutating func replayAnswered(_ index: SlotIndex, error: UInt32) {
    let entry = slots[index].parent
    partsOut -= 1
    slots.free(index)
    guard case .replaying(var replay) = phase else { return }
    slots[entry].outstanding -= 1
    if error != 0, slots[entry].error == 0 {
      slots[entry].error = error
      if replay.cursor == entry { replay.cursor = slots[entry].next }
      slots[entry].cursor = slots[entry].length
    }
    if isComplete(entry) { entryAnswered(entry, &replay) }
    phase = .replaying(replay)
    if replay.cursor == noSlot, replay.outstanding == 0 { finish(replay) }
  }

  private mutating func entryAnswered(_ entry: SlotIndex, _ replay: inout Replay) {
    let moved = replayClaims.remove(at: slots[entry].claim)
    if moved != noSlot { slots[moved].claim = slots[entry].claim }
    slots[entry].claim = -1
    replay.outstanding -= 1
    if slots[entry].error == 0 {
      replay.count += 1
      replay.bytes += slots[entry].payloadLength
    } else {
      refused(entry)
    }
  }

  /// The kernel believes it written. A TRIM promises nothing about what is read afterwards: nothing is lost with it.
  private mutating func refused(_ entry: SlotIndex) {
    if !slots[entry].kind.isTrim {
      owed.dataLost()
      losses.add(
        LostRange(offset: slots[entry].offset, length: UInt64(slots[entry].length), error: slots[entry].error))
    }
    dropFromLog(entry)
  }

  /// The server has all that was acknowledged. Other links that have joined are not proven by that: theirs may be a
  /// server that came after this one. A FLUSH on this link says.
  private mutating func finish(_ replay: Replay) {
    guard let link = linkIndex(replay.link) else { return }
    tellLosses()
    let resent = sentBefore(ready) + sentBefore(blocked) + sentBefore(split)
    if resent + replay.count > 0 {
      report(.recovered(resent: resent, replayed: replay.count, bytes: replay.bytes))
    }
    links[link].standing = .proven
    phase = .flowing
    // Without FLUSH a server has nothing to forget.
    if !links[link].server.canFlush { dropFromLog(before: .max) }
    proveUnneeded()
    considerFlush()
  }

  /// Requests of a list that were sent to a server that is lost, whole or in part, and are not answered.
  private func sentBefore(_ list: SlotList) -> Int {
    var count = 0
    var index = list.first
    while index != noSlot {
      if slots[index].role == .request, slots[index].sentTime > 0 { count += 1 }
      index = slots[index].next
    }
    return count
  }

  /// The link of the replay goes; what is out on it is still waited for.
  mutating func abandonReplay() {
    for link in links {
      var index = link.inFlight.first
      while index != noSlot {
        if slots[index].role == .replay { abandonPiece(index) }
        index = slots[index].next
      }
    }
  }

  /// A part or a replay in flight that nobody waits for any more. Its payload is not its own.
  mutating func abandonPiece(_ index: SlotIndex) {
    slots[index].role = .abandoned
    slots[index].parent = noSlot
    slots[index].payload = nil
    partsOut -= 1
  }
}
