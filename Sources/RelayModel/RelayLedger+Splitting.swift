import NBDProtocol

extension RelayLedger {
  /// Parts in flight at once, so that one long request and a server of small payloads don't fill the table.
  private static let mostParts = 1024

  var hasRoomForPart: Bool { partsOut < RelayLedger.mostParts }

  /// It need not be split for that link.
  func fits(_ index: SlotIndex, _ link: Link) -> Bool {
    slots[index].length <= link.maximumPayload || !slots[index].kind.carriesPayload
  }

  /// The length of the first part of `length` bytes at `offset`: it ends at a multiple of the maximum payload.
  func partLength(at offset: UInt64, _ length: UInt32, _ link: Link) -> UInt32 {
    let maximum = link.maximumPayload
    return min(length, maximum - UInt32(truncatingIfNeeded: offset % UInt64(maximum)))
  }

  /// Sends a part of a request, or one that was made already and has to be sent again. The slot is the first of `ready`.
  mutating func sendPart(of index: SlotIndex, on link: Int, now: UInt64) -> Transmission? {
    guard hasRoomForPart else { return nil }
    if slots[index].role == .part, fits(index, links[link]) {
      slots.remove(index, from: &ready)
      partsOut += 1
      return put(index, on: link, isWhole: false, now: now)
    }
    let part = slots[index].role == .part ? carve(index, links[link]) : makePart(of: index, links[link])
    partsOut += 1
    slots[slots[part].parent].sentTime = now
    return put(part, on: link, isWhole: false, now: now)
  }

  /// The next part of a request of the kernel.
  private mutating func makePart(of parent: SlotIndex, _ link: Link) -> SlotIndex {
    let cursor = slots[parent].cursor
    if slots[parent].sentTime == 0 { splitCount += 1 }
    let length = partLength(at: slots[parent].offset &+ UInt64(cursor), slots[parent].length - cursor, link)
    let part = makePiece(.part, of: parent, length)
    if slots[parent].cursor == slots[parent].length {
      slots.remove(parent, from: &ready)
      slots[parent].state = .split
      slots.append(parent, to: &split)
    }
    return part
  }

  /// A part that was made for another server is too long for this one: its front becomes a part of its own.
  private mutating func carve(_ index: SlotIndex, _ link: Link) -> SlotIndex {
    let parent = slots[index].parent
    let length = partLength(at: slots[index].offset, slots[index].length, link)
    let part = slots.take()
    let generation = slots[part].generation
    slots[part] = slots[index]
    slots[part].generation = generation
    slots[part].length = length
    slots[index].offset &+= UInt64(length)
    slots[index].length -= length
    slots[index].payload?.offset &+= Int32(truncatingIfNeeded: length)
    slots[parent].outstanding += 1
    return part
  }

  /// The next `length` bytes of a request or a kept write as a slot of its own, in no list.
  mutating func makePiece(_ role: Slot.Role, of parent: SlotIndex, _ length: UInt32) -> SlotIndex {
    let piece = slots.take()
    let cursor = slots[parent].cursor
    slots[piece].role = role
    slots[piece].parent = parent
    slots[piece].kind = slots[parent].kind
    slots[piece].flags = slots[parent].flags
    slots[piece].kernelCookie = slots[parent].kernelCookie
    slots[piece].offset = slots[parent].offset &+ UInt64(cursor)
    slots[piece].length = length
    slots[piece].payload = slots[parent].payload
    slots[piece].payload?.offset &+= Int32(truncatingIfNeeded: cursor)
    slots[piece].order = slots[parent].order
    slots[piece].time = slots[parent].time
    slots[parent].cursor += length
    slots[parent].outstanding += 1
    return piece
  }

  /// A part has its reply, and is off its link.
  mutating func partAnswered(_ index: SlotIndex, _ link: Int, error: UInt32, now: UInt64) -> Outcome {
    let parent = slots[index].parent
    let offset = UInt32(truncatingIfNeeded: slots[index].offset &- slots[parent].offset)
    let isRead = slots[parent].kind.isRead
    let kernelCookie = slots[parent].kernelCookie
    partsOut -= 1
    slots.free(index)
    slots[parent].outstanding -= 1
    if error != 0, slots[parent].error == 0 {
      slots[parent].error = error
      stopParts(of: parent)
    }
    let isAbandoned = slots[parent].role == .abandoned
    guard isComplete(parent) else {
      return isAbandoned || !isRead ? .swallowed : .part(kernelCookie: kernelCookie, offset: offset)
    }
    slots.remove(parent, from: &split)
    let told = conclude(parent, on: link, error: slots[parent].error, now: now)
    if isAbandoned { return .swallowed }
    return isRead
      ? .assembled(kernelCookie: kernelCookie, offset: offset, error: told)
      : .answer(kernelCookie: kernelCookie, error: told)
  }

  /// All of it was sent, and all answered.
  func isComplete(_ parent: SlotIndex) -> Bool {
    slots[parent].outstanding == 0 && slots[parent].cursor == slots[parent].length
  }

  /// Nothing more of it is sent; the parts that are out are waited for.
  mutating func stopParts(of parent: SlotIndex) {
    if slots[parent].state == .waiting(.ready) {
      slots.remove(parent, from: &ready)
      slots[parent].state = .split
      slots.append(parent, to: &split)
    }
    slots[parent].cursor = slots[parent].length
    dropWaitingParts(of: parent)
  }

  private mutating func dropWaitingParts(of parent: SlotIndex) {
    ready = dropWaitingParts(of: parent, in: ready)
    gated = dropWaitingParts(of: parent, in: gated)
  }

  private mutating func dropWaitingParts(of parent: SlotIndex, in list: SlotList) -> SlotList {
    var list = list
    var index = list.first
    while index != noSlot {
      let next = slots[index].next
      if slots[index].role == .part, slots[index].parent == parent {
        slots.remove(index, from: &list)
        slots.free(index)
        slots[parent].outstanding -= 1
      }
      index = next
    }
    return list
  }

  /// Split writes that are unfinished when a new server takes over are sent again whole: what the old one has
  /// acknowledged of them is in no log. None of their parts is on a link then.
  mutating func restartSplitWrites() {
    var index = ready.first
    while index != noSlot {
      let next = slots[index].next
      if slots[index].role == .request, slots[index].isModifying, slots[index].cursor > 0 { restart(index) }
      index = next
    }
    index = split.first
    while index != noSlot {
      let next = slots[index].next
      if slots[index].isModifying {
        slots.remove(index, from: &split)
        restart(index)
        makeReady(index)
      }
      index = next
    }
  }

  private mutating func restart(_ parent: SlotIndex) {
    dropWaitingParts(of: parent)
    slots[parent].cursor = 0
    slots[parent].outstanding = 0
    slots[parent].error = 0
    unreserve(parent)
  }
}
