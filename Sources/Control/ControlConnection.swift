import Dispatch
import Glibc
import LinuxKernel

/// One client's connection: its descriptor, what it is waited for, and the bytes on their way.
///
/// Lives on the server's queue alone.
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
  private let queue: DispatchQueue
  private let wake: Wake
  private let timer: any DispatchSourceTimer
  private var wait: DescriptorWait?
  private var output: [UInt8] = []
  private var sent = 0

  /// Takes over `fd`, which does not block. Handlers run on `queue`.
  init(fd: Int32, user: UInt32, callLength: Int, queue: DispatchQueue, wake: Wake) {
    self.fd = fd
    self.user = user
    self.queue = queue
    self.wake = wake
    input = MessageBuffer(messageLimit: callLength)
    timer = DispatchSource.makeTimerSource(queue: queue)
    timer.setEventHandler(handler: wake.expired)
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
    disarm()
    Glibc.close(fd)
  }

  /// `nil`: never.
  func expire(in duration: Duration?) {
    guard let duration else { return timer.schedule(deadline: .distantFuture) }
    let (seconds, attoseconds) = duration.components
    let interval = Double(seconds) + Double(attoseconds) / 1e18
    timer.schedule(deadline: .now() + interval, leeway: .milliseconds(100))
  }

  enum Progress {
    case done
    case blocked
    /// The client is gone.
    case ended
  }

  /// Reads what is there into `input`, at most one small chunk; `blocked` when nothing is.
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

  /// Waits for this, once, in place of what it was waited for.
  func arm(_ readiness: Readiness) {
    disarm()
    wait = DescriptorWait(for: readiness, of: fd, on: queue, wake.ready)
  }

  func disarm() {
    wait?.cancel()
    wait = nil
  }
}
