import Glibc
import NBDProtocol
import RelayModel

/// Where a long reply stands on its way through its link's pipe.
enum Passage: Equatable {
  /// Can become: `filling`.
  case none
  /// Its header is read, and so many bytes of its payload of `length` are still to come. Can become: `full`, `none` (it
  /// is copied, or not wanted any more).
  case filling(cookie: UInt64, length: Int, left: Int)
  /// All of it is there; it has its place among what goes to the kernel. Can become: `none`.
  case full(kernelCookie: UInt64)
}

/// Replies to long READs, which go to the kernel without being copied.
extension RelayEngine {
  static let passagesInTurn = 8

  /// The next reply on the link may be one: its header is read alone. Where other replies come first they cost a call more.
  func expectsPassage(_ link: UnsafeMutablePointer<ServerLink>) -> Bool {
    link.pointee.passes && link.pointee.input.count == 0 && ledger.expectsLongRead(on: link.pointee.id)
  }

  /// Whether a reply of which only the header is here goes through the pipe.
  @inline(__always)
  func isPassable(_ link: UnsafeMutablePointer<ServerLink>, _ expected: ExpectedReply) -> Bool {
    // Copying instead would begin at the front of the buffer, from which nothing may still be on its way.
    guard link.pointee.passes, !link.pointee.owesKernel, case .kernel = expected.destination else { return false }
    let length = Int(expected.payloadLength)
    return length >= ReplyPipe.smallestPayload && length <= ReplyPipe.largestPayload
  }

  /// Goes on with a passage that has begun; `false` when the link can't be read for now, or is gone.
  mutating func fillPipe(_ link: UnsafeMutablePointer<ServerLink>) -> Bool {
    guard case .filling(let cookie, let length, var left) = link.pointee.passage else { return true }
    let result = link.pointee.pipe.fill(from: link.pointee.descriptor, left: &left)
    link.pointee.passage = .filling(cookie: cookie, length: length, left: left)
    switch result {
    case .complete: return finishFilling(cookie, link)
    case .wouldBlock: link.pointee.hasMoreInput = false
    case .noMemory: link.pointee.restsUntil = now + RelayEngine.memoryPause
    case .unsuited: return copyInstead(cookie, length, link)
    case .ended(let code): lose(link, code == 0 ? .closed : .failed(code))
    }
    return false
  }

  private mutating func finishFilling(_ cookie: UInt64, _ link: UnsafeMutablePointer<ServerLink>) -> Bool {
    link.pointee.passage = .none
    guard case .answer(let kernelCookie, let error) = ledger.replied(cookie, from: link.pointee.id, error: 0, now: now),
      finish(kernelCookie, error: error) != nil
    else {
      // Nobody waits for it any more.
      link.pointee.pipe.close()
      return true
    }
    link.pointee.passage = .full(kernelCookie: kernelCookie)
    link.pointee.hasMoreInput = false
    link.pointee.owesKernel = true
    kernel.passages.append(link)
    return true
  }

  /// The rest of the payload comes into the link's buffer, behind what has come.
  private mutating func copyInstead(
    _ cookie: UInt64, _ length: Int, _ link: UnsafeMutablePointer<ServerLink>
  ) -> Bool {
    let size = Wire.replySize + length
    link.pointee.input.need(size)
    guard let room = link.pointee.input.prepare(), let base = room.baseAddress, room.count >= size else {
      link.pointee.restsUntil = now + RelayEngine.memoryPause
      return false
    }
    link.pointee.passes = false
    link.pointee.passage = .none
    let count = link.pointee.pipe.count
    Wire.writeReply(cookie: cookie, error: 0, at: base)
    guard link.pointee.pipe.drain(to: base + Wire.replySize) else {
      lose(link, .failed(EIO))
      return false
    }
    link.pointee.pipe.close()
    link.pointee.input.received(Wire.replySize + count)
    link.pointee.hasMoreInput = true
    return true
  }

  /// Sends the reply in the pipe of the first link that has one, or goes on with it; `nil` when it has gone.
  mutating func sendPassage(_ link: UnsafeMutablePointer<ServerLink>) -> Transfer? {
    guard case .full(let kernelCookie) = link.pointee.passage else {
      kernel.passages.removeFirst()
      return nil
    }
    if !kernel.isPassing {
      let sent = kernel.sendHeader(cookie: kernelCookie)
      guard case .moved = sent else { return sent }
    }
    let moved = link.pointee.pipe.empty(into: kernel.descriptor)
    guard case .moved = moved else { return moved }
    kernel.isPassing = false
    kernel.passages.removeFirst()
    link.pointee.passage = .none
    return nil
  }
}
