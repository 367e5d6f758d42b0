import Glibc
package import LinuxKernel

/// Links of a former process, on which its servers may still carry out writes: a newer write that is sent on a new link
/// could be overwritten by one of them, and so nothing is sent before each is closed by its server, or the fence-timeout has
/// passed (DESIGN.md, "Silence").
///
/// Whatever has ended that process, the service manager had a duplicate of each socket, and with it the server's connection.
package struct FormerLinks: Sendable {
  package let sockets: [OpenFile]
  /// When they were half closed, in monotonic nanoseconds.
  let since: UInt64

  /// Half-closes them: their servers carry out what they have, and close. What they answer is not read by anybody.
  package init(_ sockets: [OpenFile]) {
    self.sockets = sockets
    since = monotonicNanoseconds()
    for socket in sockets { Socket.finishSending(socket.number) }
  }
}

/// The fence between what a former process has sent and what this one sends.
///
/// Concurrency model: the relay's thread alone.
struct Fence {
  private var sockets: [OpenFile]
  private let since: UInt64
  /// The index of the first of them in the last poll(2); -1: they were not among it.
  private var firstPolled = -1
  /// That requests wait for it.
  var isTold = false

  init(_ former: FormerLinks?) {
    sockets = former?.sockets ?? []
    since = former?.since ?? 0
  }

  var isUp: Bool { !sockets.isEmpty }

  /// When it falls whatever the servers do, in monotonic nanoseconds.
  func deadline(_ timeout: Duration?) -> UInt64 {
    guard isUp, let timeout else { return .max }
    return since + timeout.clampedNanoseconds
  }

  mutating func poll(_ set: inout PollSet) {
    firstPolled = -1
    for socket in sockets {
      let index = set.add(socket.number, reads: true, writes: false)
      if firstPolled < 0 { firstPolled = index }
    }
  }

  /// Forgets the sockets that their servers have closed.
  mutating func look(_ set: PollSet) {
    guard firstPolled >= 0 else { return }
    var index = firstPolled
    sockets.removeAll { socket in
      defer { index += 1 }
      return set.isReadable(index) && Fence.hasEnded(socket.number)
    }
    firstPolled = -1
  }

  mutating func fall() { sockets = [] }

  /// Answers for a process that is gone are thrown away, some at a time.
  private static func hasEnded(_ socket: Int32) -> Bool {
    withUnsafeTemporaryAllocation(byteCount: 64 << 10, alignment: 8) { buffer in
      for _ in 0..<16 {
        switch StreamSocket.receive(socket, into: buffer) {
        case .moved: continue
        case .wouldBlock, .noMemory: return false
        case .ended: return true
        }
      }
      return false
    }
  }
}
