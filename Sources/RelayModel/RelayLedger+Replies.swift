import NBDProtocol

extension RelayLedger {
  /// What the reply with this header must bring; `nil`: no such request is out on that link, which must be ended.
  package func expected(_ cookie: UInt64, from link: LinkID) -> ExpectedReply? {
    guard let index = slots.find(cookie), slots[index].isInFlight(on: link) else { return nil }
    let kind = slots[index].kind
    var reply = ExpectedReply(
      command: kind.command, payloadLength: kind.isRead ? slots[index].length : 0, destination: .nobody)
    switch slots[index].role {
    case .request: reply.destination = .kernel(cookie: slots[index].kernelCookie)
    case .part:
      let parent = slots[index].parent
      guard kind.isRead, slots[parent].role == .request else { break }
      reply.destination = .assembly(
        cookie: slots[parent].kernelCookie,
        offset: UInt32(truncatingIfNeeded: slots[index].offset &- slots[parent].offset), total: slots[parent].length)
    case .ownFlush, .replay, .abandoned: break
    }
    return reply
  }

  /// A reply is there, with its payload. `error` is the number on the wire, 0 for success.
  package mutating func replied(_ cookie: UInt64, from id: LinkID, error: UInt32, now: UInt64) -> Outcome {
    guard let index = slots.find(cookie), slots[index].isInFlight(on: id), let link = linkIndex(id) else {
      return .violation
    }
    if error != 0, error == ErrorCode.shutdown.rawValue {
      turnAway(index, link)
      linkLeaving(id)
      return .linkIsEnding
    }
    takeOff(index, link)
    let outcome = landed(index, link, error: error, now: now)
    // A link that goes had the last write which the next server must wait for.
    if phase == .holding { settle() }
    return outcome
  }

  /// Counts the first NBD_ESHUTDOWN for a write.
  private mutating func turnAway(_ index: SlotIndex, _ link: Int) {
    guard slots[index].isModifying, slots[index].error == 0 else { return }
    slots[index].error = ErrorCode.shutdown.rawValue
    links[link].turnedAway += 1
  }

  private mutating func landed(_ index: SlotIndex, _ link: Int, error: UInt32, now: UInt64) -> Outcome {
    switch slots[index].role {
    case .request:
      let kernelCookie = slots[index].kernelCookie
      return .answer(kernelCookie: kernelCookie, error: conclude(index, on: link, error: error, now: now))
    case .part:
      return partAnswered(index, link, error: error, now: now)
    case .ownFlush:
      flushing.own = noSlot
      ownFlushAnswered(index, link, error: error, now: now)
      slots.free(index)
    case .replay:
      replayAnswered(index, error: error)
    case .abandoned:
      _ = conclude(index, on: link, error: error, now: now)
    }
    return .swallowed
  }

  /// All of a request is answered, and it is in no list. Gives the error that the kernel is told.
  mutating func conclude(_ index: SlotIndex, on link: Int, error: UInt32, now: UInt64) -> UInt32 {
    let isAbandoned = slots[index].role == .abandoned
    if !isAbandoned { taken -= 1 }
    var told = error
    if slots[index].isModifying {
      let isFUA = slots[index].isFUA
      releaseClaim(index)
      unreserve(index)
      if !isAbandoned, error == 0, mustKeep(index, of: links[link].server) {
        keep(index, now: now)
      } else {
        discard(index)
      }
      if !roomless.isEmpty { makeRoomlessReady() }
      if !isAbandoned, isFUA { told = owed.tellFUA(error) }
    } else if slots[index].kind.isFlush {
      flushAnswered(sent: slots[index].sentOrder, link, error: error)
      if !isAbandoned { told = owed.tellFlush(error) }
      slots.free(index)
    } else {
      slots.free(index)
    }
    if isDraining { considerFlush() }
    return told
  }
}
