import Glibc
import NBDProtocol
import RelayModel

/// One link with its buffers.
///
/// Concurrency model: the relay's thread alone. It is used through a pointer, so that no access is counted or checked.
struct ServerLink {
  enum Standing: Equatable {
    /// Requests go out on it. Can become: `ending`, `leaving`, `gone`.
    case up
    /// Its server shuts down: nothing is sent, the answers that still come are taken until then (monotonic
    /// nanoseconds). Can become: `gone`.
    case ending(until: UInt64)
    /// Half-closed, with writes that its server may carry out yet: late answers are taken until then; `nil`: until the
    /// server closes. Can become: `gone`.
    case leaving(until: UInt64?, because: RelayEvent.Loss)
    /// Closed. It is here because replies to the kernel may lie in its buffer.
    case gone
  }

  let id: LinkID
  let server: ServerLimits
  /// When a link that goes is closed at the latest, in monotonic nanoseconds.
  var deadline: UInt64 {
    switch standing {
    case .ending(let until), .leaving(.some(let until), _): until
    case .up, .leaving(nil, _), .gone: .max
    }
  }
  /// `nil` when it is gone: the socket is closed.
  var transport: (any RelayTransport)?
  var descriptor: Int32
  var standing = Standing.up

  var input = ReceiveBuffer()
  /// The last receive filled all the room there was, or the transport holds more.
  var hasMoreInput = false
  /// Complete replies wait in `input` for room towards the kernel.
  var hasUnparsed = false

  /// Long replies may go through the pipe.
  var passes: Bool
  var pipe = ReplyPipe()
  var passage = Passage.none

  var output = LinkOutput()
  /// As the ledger was told.
  var isWritable = true
  /// The socket took less than it was given: it is tried again when poll(2) says so.
  var isBlocked = false
  /// Replies in `input` or `pipe` are on their way to the kernel: they must stay where they are.
  var owesKernel = false
  /// The system had no memory for it: until then (monotonic nanoseconds) nothing is tried.
  var restsUntil: UInt64 = 0
  /// Where it stands in the last poll(2); -1: not there.
  var pollIndex = -1

  init(_ id: LinkID, _ link: RelayLink) {
    self.id = id
    server = link.server
    transport = link.transport
    descriptor = link.transport.descriptor
    hasMoreInput = link.transport.hasBufferedInput
    passes = link.transport.isPlain
  }

  /// Lets go of everything. `segments` get their references back.
  mutating func free(_ segments: SegmentPool) {
    output.clear(segments)
    output.free()
    input.free()
    pipe.close()
    transport = nil
  }
}

/// What goes out on a link and is not sent yet: one batch, whose headers lie here and whose payloads lie in segments.
struct LinkOutput {
  /// Requests in one batch.
  static let capacity = 128

  private(set) var gather = Gather(capacity: LinkOutput.capacity * 2)
  private let headers = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity * Wire.requestSize, alignment: 8)
  private var headerCount = 0
  /// Segments that must stay until the batch is sent: a server may answer a request before it has all of it.
  private let pinned = UnsafeMutablePointer<Int32>.allocate(capacity: capacity)
  private var pinnedCount = 0

  var isEmpty: Bool { gather.isEmpty }
  var isFull: Bool { headerCount == LinkOutput.capacity || pinnedCount == LinkOutput.capacity || gather.room < 2 }

  /// There must be room.
  @inline(__always)
  mutating func append(_ transmission: Transmission, _ segments: SegmentPool) {
    guard let payload = transmission.payload else {
      return append(header: transmission.header)
    }
    let memory = segments.memory(payload.segment)
    let offset = Int(payload.offset)
    let length = Int(transmission.length)
    // The ledger adds to offsets that were right; this is what stands between a slip of it and the memory behind.
    guard offset >= Wire.requestSize, let base = memory.baseAddress, length <= memory.count - offset else { return }
    segments.retain(payload.segment)
    pinned[pinnedCount] = payload.segment
    pinnedCount += 1
    if transmission.isWhole {
      let header = base + (offset - Wire.requestSize)
      Wire.write(transmission.header, at: header)
      gather.append(header, Wire.requestSize + length)
    } else {
      append(header: transmission.header)
      gather.append(base + offset, length)
    }
  }

  @inline(__always)
  mutating func append(header: Request) {
    guard let base = headers.baseAddress, headerCount < LinkOutput.capacity else { return }
    let place = base + headerCount * Wire.requestSize
    Wire.write(header, at: place)
    gather.append(place, Wire.requestSize)
    headerCount += 1
  }

  /// Drops `count` sent bytes from the front.
  @inline(__always)
  mutating func advance(_ count: Int, _ segments: SegmentPool) {
    gather.advance(count)
    if gather.isEmpty { clear(segments) }
  }

  mutating func clear(_ segments: SegmentPool) {
    for index in 0..<pinnedCount { segments.release(pinned[index]) }
    pinnedCount = 0
    headerCount = 0
    gather.clear()
  }

  /// After `clear`.
  func free() {
    gather.free()
    headers.deallocate()
    pinned.deallocate()
  }
}
