import Glibc
package import LinuxKernel
import NBDProtocol
import RelayModel

/// What a relay that has ended leaves behind.
package enum Remainder: Sendable {
  /// All that was acknowledged is safe, and the kernel knows of all that is not; or it was not asked for.
  case nothing
  /// What it had inherited is as good as it was: no request of the kernel has gone out.
  case inheritance
  case legacy(Legacy)
  /// What could not be kept: acknowledged payload in bytes, whether the kernel was to be told of an error, and why.
  case lost(bytes: Int, owesError: Bool, SystemCallError)
}

/// From one process to the next.
extension RelayEngine {
  /// Takes over what a former process has left, before there is any link.
  mutating func inherit() {
    guard let inherited else { return }
    do throws(LegacyError) {
      let writes = try load(inherited)
      guard ledger.inherit(writes, owing: inherited.errors, now: now) else { throw .malformed("it is not in order") }
    } catch {
      // The kernel believes it written: better an error too much than silence.
      _ = ledger.inherit([], owing: OwedErrors(toFlush: true, toFUA: true), now: now)
      onEvent(.legacyLost(bytes: inherited.bytes, reason: "\(error)"))
    }
    // It counts against the budget as what the device itself has kept.
    var before = -1
    while borrowed != before {
      before = borrowed
      borrow()
    }
    publish()
  }

  /// Its writes with their payloads in segments, each behind room for a header; none of them when there is an error.
  private mutating func load(_ legacy: Legacy) throws(LegacyError) -> [LoggedWrite] {
    var writes = try legacy.writes()
    var taken: [Int32] = []
    var end = 0
    var position = legacy.payloadStart
    do throws(SystemCallError) {
      for index in writes.indices where writes[index].command == .write {
        let length = Int(writes[index].length)
        let needed = Wire.requestSize + length
        if taken.isEmpty || segments.memory(taken[taken.count - 1]).count - end < needed {
          guard let segment = segments.take(atLeast: needed) else { throw SystemCallError("mmap", ENOMEM) }
          taken.append(segment)
          end = 0
        }
        let segment = taken[taken.count - 1]
        let payload = segments.memory(segment)[end + Wire.requestSize..<end + needed]
        try legacy.read(into: UnsafeMutableRawBufferPointer(rebasing: payload), at: position)
        segments.retain(segment)
        writes[index].payload = PayloadLocation(segment: segment, offset: Int32(end + Wire.requestSize))
        end += needed
        position += length
      }
    } catch {
      for write in writes { if let payload = write.payload { segments.release(payload.segment) } }
      for segment in taken { segments.release(segment) }
      throw .unreadable("\(error)")
    }
    for segment in taken { segments.release(segment) }
    return writes
  }

  /// Lets requests go out when all links of the former process are closed, or their time is over.
  mutating func watchFence() {
    fence.look(polled)
    if now >= fence.deadline(settings.fenceTimeout) { fence.fall() }
    guard !fence.isUp else { return }
    ledger.unfence()
    onEvent(.formerLinksClosed)
  }

  /// Once a second.
  mutating func tellOfFence() {
    guard fence.isUp, !fence.isTold, kernel.pending.count > 0 else { return }
    guard links.contains(where: { $0.pointee.standing == .up }) else { return }
    fence.isTold = true
    onEvent(.awaitsFormerLinks)
  }

  /// Ends the validity of what was inherited, when a request of the kernel is about to go out; or when nothing is left of
  /// it, so that the memory is free. See `Legacy`.
  ///
  /// To be called before each sending: an answer can only come in a later turn.
  @inline(__always)
  mutating func spendInheritance() {
    guard inherited != nil else { return }
    spend()
  }

  private mutating func spend() {
    guard let inherited, ledger.isFlowing else { return }
    guard ledger.unanswered > 0 || (ledger.unflushed.entries == 0 && ledger.errorsOwed.isEmpty) else { return }
    // Of a file that this process may write and that is sealed against all but this, it can't fail.
    try? inherited.spend()
    self.inherited = nil
    onEvent(.legacySpent)
  }

  /// Nothing is acknowledged any more: what is left now is all.
  func leave() -> Remainder {
    guard let heir else { return .nothing }
    if inherited != nil { return .inheritance }
    let writes = ledger.loggedWrites
    let errors = ledger.errorsOwed
    guard !writes.isEmpty || !errors.isEmpty else { return .nothing }
    do throws(SystemCallError) {
      return .legacy(
        try Legacy.make(of: heir, owing: errors, writes) { write in
          guard let payload = write.payload else { return nil }
          let start = Int(payload.offset)
          return UnsafeRawBufferPointer(
            rebasing: segments.memory(payload.segment)[start..<start + Int(write.length)])
        })
    } catch {
      return .lost(bytes: ledger.unflushed.bytes, owesError: !errors.isEmpty, error)
    }
  }
}
