import NBDProtocol

/// Data was lost that the kernel believes written, and it must be told: FLUSH and FUA once each, for all losses so far.
package struct OwedErrors: Equatable, Sendable {
  package private(set) var toFlush: Bool
  package private(set) var toFUA: Bool
  /// Told in answers that are not known to have reached the kernel.
  private var isFlushUnheard = false
  private var isFUAUnheard = false

  package init(toFlush: Bool = false, toFUA: Bool = false) {
    self.toFlush = toFlush
    self.toFUA = toFUA
  }

  package var isEmpty: Bool { !toFlush && !toFUA }

  mutating func dataLost() {
    toFlush = true
    toFUA = true
  }

  /// The error to tell for a FLUSH that the server answered with `error`. An error of the server pays the debt as well.
  mutating func tellFlush(_ error: UInt32) -> UInt32 {
    guard toFlush else { return error }
    toFlush = false
    isFlushUnheard = true
    return error == 0 ? ErrorCode.inputOutput.rawValue : error
  }

  /// The same for a write with FUA. An error of the server concerns that write alone.
  mutating func tellFUA(_ error: UInt32) -> UInt32 {
    guard toFUA, error == 0 else { return error }
    toFUA = false
    isFUAUnheard = true
    return ErrorCode.inputOutput.rawValue
  }

  /// All answers have reached the kernel.
  @inline(__always)
  mutating func heard() {
    isFlushUnheard = false
    isFUAUnheard = false
  }

  /// Answers that are on their way will never reach it: it asks again, and must be told again.
  mutating func takeBack() {
    toFlush = toFlush || isFlushUnheard
    toFUA = toFUA || isFUAUnheard
    heard()
  }
}

extension RelayLedger {
  /// An acknowledged write must be sent again to a server that has forgotten it. One with FUA, or after which nothing
  /// is kept, only while the log is not empty: an older write of the same range would else be replayed over it.
  func mustKeep(_ index: SlotIndex, of server: ServerLimits) -> Bool {
    guard log.isEmpty else { return true }
    return keeps(server) && !(server.canFUA && slots[index].isFUA)
  }

  func keeps(_ server: ServerLimits) -> Bool { server.canFlush && limits.unflushedBytes > 0 }

  /// The slot is in no list. Its payload stays where it is.
  mutating func keep(_ index: SlotIndex, now: UInt64) {
    if slots[index].kind.isWrite {
      flushing.pace.wrote(in: elapsed(since: slots[index].sentTime, now))
    }
    slots[index].state = .kept
    slots[index].order = tickCount()
    slots[index].time = now
    slots.append(index, to: &log)
    loggedBytes += slots[index].payloadLength
    if !flushing.isDue, isLogLong { considerFlush() }
  }

  /// Off the log, and its payload back to the engine.
  mutating func dropFromLog(_ index: SlotIndex) {
    slots.remove(index, from: &log)
    loggedBytes -= slots[index].payloadLength
    discard(index)
  }

  /// What was acknowledged before `order` is safe.
  mutating func dropFromLog(before order: UInt64) {
    while log.first != noSlot, slots[log.first].order < order { dropFromLog(log.first) }
  }

  /// A write that is about to go out for the first time, or again.
  func needsRoom(_ index: SlotIndex) -> Bool {
    slots[index].isModifying && slots[index].role == .request && !slots[index].isReserved
  }

  /// The log can take it once it is acknowledged. One that is longer than the limit may go alone.
  func hasRoom(_ index: SlotIndex, on link: Int) -> Bool {
    guard keeps(links[link].server) else { return log.isEmpty || !links[link].server.canFlush }
    let entries = log.count + reservedEntries
    guard entries > 0 else { return true }
    return entries < limits.unflushedEntries
      && loggedBytes + reservedBytes + slots[index].payloadLength <= limits.unflushedBytes
  }

  mutating func reserve(_ index: SlotIndex) {
    slots[index].isReserved = true
    reservedEntries += 1
    reservedBytes += slots[index].payloadLength
  }

  mutating func unreserve(_ index: SlotIndex) {
    guard slots[index].isReserved else { return }
    slots[index].isReserved = false
    reservedEntries -= 1
    reservedBytes -= slots[index].payloadLength
  }

  mutating func limitsChanged() {
    makeRoomlessReady()
    considerFlush()
  }
}
