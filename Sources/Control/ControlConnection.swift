import Dispatch
import Glibc

/// One client's connection: its descriptor, the sources on it, and the bytes on their way.
///
/// Lives on the server's queue alone. The descriptor is closed when both sources have let go of it, not before: a new
/// connection of the same number would never hear of its events.
final class ControlConnection {
  /// Whose turn it is. Calls are answered one by one, so a client that sends many waits in its own socket buffer.
  enum Phase {
    /// The client's: a call is awaited, or a part of one is here.
    case receiving
    /// Ours: the answer is being made.
    case answering
    /// The client's: it has to take the answer.
    case sending
  }

  let user: UInt32
  var phase = Phase.receiving
  var input: MessageBuffer
  /// What makes the answer; cancelled with the connection.
  var answering: Task<Void, Never>?
  private let fd: Int32
  private let reading: any DispatchSourceRead
  private let writing: any DispatchSourceWrite
  private let timer: any DispatchSourceTimer
  private var isReadingArmed = false
  private var isWritingArmed = false
  private var output: [UInt8] = []
  private var sent = 0

  /// Takes over `fd`, which does not block. Handlers run on `queue`.
  init(fd: Int32, user: UInt32, callLength: Int, queue: DispatchQueue, closed: DispatchGroup, wake: Wake) {
    self.fd = fd
    self.user = user
    input = MessageBuffer(messageLimit: callLength)
    reading = DispatchSource.makeReadSource(fileDescriptor: fd, queue: queue)
    writing = DispatchSource.makeWriteSource(fileDescriptor: fd, queue: queue)
    timer = DispatchSource.makeTimerSource(queue: queue)
    reading.setEventHandler(handler: wake.ready)
    writing.setEventHandler(handler: wake.ready)
    timer.setEventHandler(handler: wake.expired)
    closed.enter()
    let letGo = DispatchGroup()
    for source in [reading as any DispatchSourceProtocol, writing] {
      letGo.enter()
      source.setCancelHandler { letGo.leave() }
    }
    letGo.notify(queue: queue) {
      Glibc.close(fd)
      closed.leave()
    }
    timer.activate()
  }

  /// What to do when the descriptor is ready, and when the deadline has passed.
  struct Wake {
    var ready: () -> Void
    var expired: () -> Void
  }

  /// Ends it; no handler runs afterwards.
  func close() {
    answering?.cancel()
    timer.cancel()
    reading.cancel()
    writing.cancel()
    // A source that is suspended, or was never activated, must not be released, nor does it run its cancel handler.
    if !isReadingArmed { reading.resume() }
    if !isWritingArmed { writing.resume() }
  }

  /// `nil`: never.
  func expire(in duration: Duration?) {
    guard let duration else { return timer.schedule(deadline: .distantFuture) }
    let (seconds, attoseconds) = duration.components
    let interval = Double(seconds) + Double(attoseconds) / 1e18
    timer.schedule(deadline: .now() + interval, leeway: .milliseconds(100))
  }

  /// Whether the client has closed its connection, not only its own side of it.
  var isHungUp: Bool {
    var descriptor = pollfd(fd: fd, events: 0, revents: 0)
    return poll(&descriptor, 1, 0) > 0 && Int32(descriptor.revents) & (POLLHUP | POLLERR) != 0
  }

  enum Progress {
    case done
    case blocked
    /// The client is gone.
    case ended
  }

  /// Reads what is there into `input`, at most one small chunk; `blocked` when nothing is.
  ///
  /// Always tried before waiting: a full hang-up is signalled once only, maybe before the wait.
  func receive() -> Progress {
    withUnsafeTemporaryAllocation(byteCount: 4096, alignment: 1) { chunk in
      while true {
        let count = Glibc.read(fd, chunk.baseAddress, chunk.count)
        if count > 0 {
          input.append(chunk[..<count])
          return .done
        }
        if count == 0 { return .ended }
        if errno == EINTR { continue }
        return errno == EAGAIN ? .blocked : .ended
      }
    }
  }

  /// Sets the next bytes to send; the former ones are sent.
  func setOutput(_ bytes: [UInt8]) {
    output = bytes
    sent = 0
  }

  /// Sends what the socket takes.
  func send() -> Progress {
    while sent < output.count {
      let count = output.withUnsafeBytes { bytes in
        let rest = UnsafeRawBufferPointer(rebasing: bytes[sent...])
        return Glibc.send(fd, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 {
        sent += count
      } else if errno != EINTR {
        return errno == EAGAIN ? .blocked : .ended
      }
    }
    output = []
    sent = 0
    return .done
  }

  /// Resuming is counted: once is enough, and twice would never be undone.
  func armReading() {
    if !isReadingArmed { reading.resume() }
    isReadingArmed = true
  }

  func armWriting() {
    if !isWritingArmed { writing.resume() }
    isWritingArmed = true
  }

  func disarm() {
    if isReadingArmed { reading.suspend() }
    if isWritingArmed { writing.suspend() }
    isReadingArmed = false
    isWritingArmed = false
  }
}
