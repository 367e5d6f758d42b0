import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel

/// The kernel's side: requests in, replies out.
extension RelayEngine {
  /// Requests are read while the ledger takes them and memory is bounded; what is not read waits in the socket.
  var mayReadKernel: Bool {
    kernel.isOpen && ledger.acceptsRequests && !kernel.hasUnparsed && !isShortOfMemory
  }

  /// What is under way may be as large as the log and 64 MiB of requests; one request is always taken. While I/O is held,
  /// no more than the segment in use is filled: a server that is gone makes all its devices wait at once, and what is
  /// not read waits in the kernel, where it has its memory already.
  var isShortOfMemory: Bool {
    guard ledger.unanswered > 0 else { return false }
    return segments.used > (ledger.holdsIO ? min(max(usedWhenHeld, SegmentPool.usualSize), memoryLimit) : memoryLimit)
  }

  private var memoryLimit: Int { granted + (64 << 20) }

  mutating func receiveFromKernel() {
    guard kernel.isOpen else { return }
    if polled.isWritable(PollSet.kernel) { sendToKernel() }
    guard kernel.isOpen, kernel.mayHaveMore || polled.isReadable(PollSet.kernel) else { return }
    guard kernel.restsUntil <= now || polled.hasEnded(PollSet.kernel) else { return }
    kernel.mayHaveMore = false
    guard mayReadKernel, kernel.restsUntil <= now else {
      // Nobody is left who would take an answer.
      if polled.hasEnded(PollSet.kernel) { endKernel(disconnectRequested: false, problem: nil) }
      return
    }
    guard let room = roomForRequests() else { return }
    switch StreamSocket.receive(kernel.descriptor, into: room) {
    case .moved(let count):
      kernel.filled += count
      kernel.mayHaveMore = count == room.count
      _ = parseRequests()
    case .wouldBlock: break
    case .noMemory: kernel.restsUntil = now + RelayEngine.memoryPause
    case .ended: endKernel(disconnectRequested: false, problem: nil)
    }
  }

  /// The rest of the segment in use, after a change to another where the request at hand does not fit.
  private mutating func roomForRequests() -> UnsafeMutableRawBufferPointer? {
    hasIdleMemory = true
    if kernel.segment >= 0 {
      let size = segments.memory(kernel.segment).count
      if kernel.parsed == kernel.filled {
        // Nothing but payloads is kept: what stands behind the last of them is free again.
        kernel.parsed = segments.references(kernel.segment) == 1 ? 0 : kernel.kept
        kernel.filled = kernel.parsed
        kernel.kept = kernel.parsed
      }
      let isTight = kernel.parsed == kernel.filled && size - kernel.parsed < 64 << 10
      if isTight || size - kernel.parsed < kernel.needed { guard changeSegment() else { return nil } }
    } else {
      guard changeSegment() else { return nil }
    }
    let memory = segments.memory(kernel.segment)
    return UnsafeMutableRawBufferPointer(rebasing: memory[kernel.filled...])
  }

  /// Takes another segment, into which the beginning of the request at hand is copied.
  private mutating func changeSegment() -> Bool {
    guard let segment = segments.take(atLeast: kernel.needed) else {
      kernel.restsUntil = now + RelayEngine.memoryPause
      return false
    }
    let count = kernel.filled - kernel.parsed
    if kernel.segment >= 0 {
      if count > 0, let old = segments.memory(kernel.segment).baseAddress,
        let new = segments.memory(segment).baseAddress
      {
        memcpy(new, old + kernel.parsed, count)
      }
      segments.release(kernel.segment)
    }
    kernel.segment = segment
    kernel.parsed = 0
    kernel.filled = count
    kernel.kept = 0
    return true
  }

  /// Gives whole requests to the ledger while it takes them. Whether there was one.
  mutating func parseRequests() -> Bool {
    kernel.hasUnparsed = false
    var didParse = false
    guard kernel.segment >= 0, let base = segments.memory(kernel.segment).baseAddress else { return false }
    while kernel.filled - kernel.parsed >= Wire.requestSize {
      guard ledger.acceptsRequests else {
        kernel.hasUnparsed = true
        break
      }
      guard let request = Wire.request(at: base + kernel.parsed) else {
        endKernel(disconnectRequested: false, problem: "the kernel's request has the wrong magic number")
        return didParse
      }
      let payload = request.command == .write ? Int(request.length) : 0
      guard payload <= KernelSide.largestPayload else {
        endKernel(disconnectRequested: false, problem: "the kernel sends a write of \(payload) bytes")
        return didParse
      }
      kernel.needed = Wire.requestSize + payload
      guard kernel.filled - kernel.parsed >= kernel.needed else { break }
      guard accept(request) else { return didParse }
      didParse = true
    }
    return didParse
  }

  /// Passes on the request at `parsed`; `false` when the kernel's side has ended with it.
  @inline(__always)
  private mutating func accept(_ request: Request) -> Bool {
    guard request.command != .disconnect else {
      endKernel(disconnectRequested: true, problem: nil)
      return false
    }
    guard request.command != .read || Int(request.length) <= KernelSide.largestPayload else {
      endKernel(disconnectRequested: false, problem: "the kernel asks for \(request.length) bytes at once")
      return false
    }
    let kind = RelayCounters.kind(of: request.command)
    guard kernel.pending.insert(request.cookie, kind: kind, length: request.length, arrival: now) else {
      endKernel(disconnectRequested: false, problem: "the kernel uses a cookie twice")
      return false
    }
    var payload: PayloadLocation?
    if request.command == .write {
      segments.retain(kernel.segment)
      payload = PayloadLocation(
        segment: kernel.segment, offset: Int32(truncatingIfNeeded: kernel.parsed + Wire.requestSize))
    }
    ledger.accept(request, payload: payload, now: now)
    kernel.parsed += kernel.needed
    kernel.needed = Wire.requestSize
    if payload != nil { kernel.kept = kernel.parsed }
    return true
  }

  /// Answers that no server's reply carries.
  mutating func answerKernel() {
    while kernel.hasRoom, let answer = ledger.nextAnswer() {
      guard finish(answer.kernelCookie, error: answer.error) != nil else { continue }
      kernel.dropAssembly(answer.kernelCookie)
      kernel.append(cookie: answer.kernelCookie, error: answer.error)
      if !kernel.hasRoom { sendToKernel() }
    }
  }

  /// Counts an answer; `nil` when the kernel does not wait for it.
  @inline(__always)
  mutating func finish(_ kernelCookie: UInt64, error: UInt32) -> PendingRequests.Entry? {
    guard let entry = kernel.pending.remove(kernelCookie) else { return nil }
    let nanoseconds = now > entry.arrival ? now - entry.arrival : 0
    counters.answered(Int(entry.kind), bytes: entry.length, failed: error != 0, nanoseconds: nanoseconds)
    return entry
  }

  mutating func sendToKernel() {
    guard kernel.hasOutput, kernel.restsUntil <= now else { return }
    // Before the kernel knows of an answer the counters do.
    publish()
    while let transfer = sendNextToKernel() {
      switch transfer {
      case .moved: break
      case .wouldBlock: return
      case .noMemory:
        kernel.restsUntil = now + RelayEngine.memoryPause
        return
      case .ended: return endKernel(disconnectRequested: false, problem: nil)
      }
    }
    ledger.answersSent()
    settleDebts()
  }

  /// `nil` when nothing is left.
  private mutating func sendNextToKernel() -> Transfer? {
    if !kernel.output.isEmpty, !kernel.isPassing {
      let sent = StreamSocket.send(kernel.descriptor, kernel.output.rest)
      if case .moved(let count) = sent { kernel.sent(count) }
      return sent
    }
    guard let link = kernel.passages.first else { return nil }
    return sendPassage(link) ?? .moved(0)
  }

  /// The kernel's socket is of no use any more. What is in flight is tracked, and the log is kept.
  mutating func endKernel(disconnectRequested: Bool, problem: String?) {
    guard kernel.isOpen else { return }
    kernel.close(segments)
    ledger.kernelReset()
    settleDebts()
    onEvent(.kernelEnded(disconnectRequested: disconnectRequested, problem: problem))
  }
}
