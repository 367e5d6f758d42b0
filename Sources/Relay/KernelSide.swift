import Glibc
import LinuxKernel
import NBDProtocol

/// Our end of the socketpair: what has come from the kernel and is not parsed, what goes to it and is not sent.
///
/// Concurrency model: the relay's thread alone.
struct KernelSide: ~Copyable {
  /// In bytes; the kernel's own limit for a request is 32 MiB (drivers/block/nbd.c, max_hw_sectors).
  static let largestPayload = 32 << 20
  /// Answers of our own in one batch.
  private static let answerCapacity = 128

  private(set) var file: OpenFile?
  var descriptor: Int32 = -1

  /// The segment into which is received; -1: none.
  var segment: Int32 = -1
  /// In that segment: what is parsed, what has arrived, and the end of the last payload.
  var parsed = 0
  var filled = 0
  var kept = 0
  /// Of the request at `parsed`, header and payload, in bytes.
  var needed = Wire.requestSize
  /// Whole requests wait in the segment until the ledger takes them.
  var hasUnparsed = false
  /// The last receive filled all the room there was.
  var mayHaveMore = false
  /// The system had no memory for it: until then (monotonic nanoseconds) nothing is tried.
  var restsUntil: UInt64 = 0

  var pending = PendingRequests()

  /// All of it is sent before anything is read from a link: what it points at lies in the links' buffers.
  var output = Gather(capacity: 256)
  private let answers = UnsafeMutableRawBufferPointer.allocate(
    byteCount: answerCapacity * Wire.replySize, alignment: 8)
  private var answerCount = 0
  /// Reads that arrive in parts, by the kernel's cookies: room for the reply, header and payload.
  var assemblies: [UInt64: UnsafeMutableRawBufferPointer] = [:]
  /// Of those, complete and in `output`.
  private var sending: [UnsafeMutableRawBufferPointer] = []

  /// Links whose pipes hold a reply, in the order in which they go.
  var passages: [UnsafeMutablePointer<ServerLink>] = []
  /// The header of the first of them has gone, so that nothing else may go before the rest of it.
  var isPassing = false

  var isOpen: Bool { descriptor >= 0 }
  /// Something is to be sent.
  var hasOutput: Bool { !output.isEmpty || !passages.isEmpty }
  /// For one more answer, or two parts of a reply.
  var hasRoom: Bool { output.room >= 2 && answerCount < KernelSide.answerCapacity }

  mutating func open(_ file: OpenFile) {
    self.file = file
    descriptor = file.number
  }

  /// A reply without a payload that no server's reply carries. There must be room.
  mutating func append(cookie: UInt64, error: UInt32) {
    guard let base = answers.baseAddress, answerCount < KernelSide.answerCapacity else { return }
    let place = base + answerCount * Wire.replySize
    Wire.writeReply(cookie: cookie, error: error, at: place)
    output.append(place, Wire.replySize)
    answerCount += 1
  }

  /// Puts a part of a read into its place; `false` when there is no memory, or the part does not fit the read.
  mutating func assemble(
    _ cookie: UInt64, total: UInt32, offset: UInt32, _ payload: UnsafeRawBufferPointer
  ) -> Bool {
    guard Int(total) <= KernelSide.largestPayload else { return false }
    let memory = assemblies[cookie] ?? MappedMemory.map(Wire.replySize + Int(total))
    guard let memory, let base = memory.baseAddress else { return false }
    assemblies[cookie] = memory
    guard payload.count <= Int(total) - min(Int(offset), Int(total)), let source = payload.baseAddress else {
      return false
    }
    memcpy(base + Wire.replySize + Int(offset), source, payload.count)
    return true
  }

  /// The whole of an assembled read goes out. There must be room.
  mutating func sendAssembly(_ cookie: UInt64, total: Int) {
    guard let memory = assemblies.removeValue(forKey: cookie), let base = memory.baseAddress else { return }
    Wire.writeReply(cookie: cookie, error: 0, at: base)
    output.append(base, Wire.replySize + total)
    sending.append(memory)
  }

  mutating func dropAssembly(_ cookie: UInt64) {
    if let memory = assemblies.removeValue(forKey: cookie) { MappedMemory.unmap(memory) }
  }

  /// Drops `count` sent bytes from the front of what goes out.
  @inline(__always)
  mutating func sent(_ count: Int) {
    output.advance(count)
    if output.isEmpty { clearOutput() }
  }

  /// In front of what comes from a pipe. A header is sent whole or not at all.
  mutating func sendHeader(cookie: UInt64) -> Transfer {
    withUnsafeTemporaryAllocation(byteCount: Wire.replySize, alignment: 8) { header in
      guard let base = header.baseAddress else { return .noMemory }
      Wire.writeReply(cookie: cookie, error: 0, at: base)
      let sent = withUnsafePointer(to: iovec(iov_base: base, iov_len: Wire.replySize)) {
        StreamSocket.send(descriptor, UnsafeBufferPointer(start: $0, count: 1))
      }
      if case .moved(let count) = sent {
        guard count == Wire.replySize else { return .ended(EPROTO) }
        isPassing = true
      }
      return sent
    }
  }

  private mutating func clearOutput() {
    output.clear()
    answerCount = 0
    guard !sending.isEmpty else { return }
    for memory in sending { MappedMemory.unmap(memory) }
    sending.removeAll(keepingCapacity: true)
  }

  /// Closes the socket and forgets what was on its way in both directions.
  mutating func close(_ segments: SegmentPool) {
    file = nil
    descriptor = -1
    leaveSegment(segments)
    clearOutput()
    passages.removeAll(keepingCapacity: true)
    isPassing = false
    for memory in assemblies.values { MappedMemory.unmap(memory) }
    assemblies.removeAll(keepingCapacity: true)
    pending.removeAll()
    mayHaveMore = false
    restsUntil = 0
  }

  /// Gives up the segment with all that is not parsed.
  mutating func leaveSegment(_ segments: SegmentPool) {
    if segment >= 0 { segments.release(segment) }
    segment = -1
    parsed = 0
    filled = 0
    kept = 0
    needed = Wire.requestSize
    hasUnparsed = false
  }

  deinit {
    output.free()
    answers.deallocate()
  }
}
