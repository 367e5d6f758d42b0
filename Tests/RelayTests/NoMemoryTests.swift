import ForgetfulServer
import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel
import Synchronization
import Testing

@testable import Relay

@Suite("Sockets for which the system has no memory", .timeLimit(.minutes(2)))
struct NoMemoryTests {
  @Test("they are tried again after a pause, not in a loop, and no link is lost", arguments: [true, false])
  func pause(sends: Bool) async throws {
    let lab = try RelayLab()
    let transport = StarvedTransport(try lab.server.connect(), sends: sends, refusals: 5)
    await lab.relay.add([RelayLink(transport, ServerLimits())])
    let data = pattern(4096, 1)
    #expect(try lab.kernel.ask(.write, at: 0, data).error == nil)
    #expect(transport.left == 0)
    // However slow the machine is, it is not less.
    #expect(transport.nanoseconds >= 4 * RelayEngine.memoryPause)
    #expect(try lab.kernel.ask(.read, at: 0, length: 4096).data == data)
    #expect(lab.events.all.losses.isEmpty)
    await lab.end()
  }

  @Test("what poll(2) has said of the kernel's socket is not taken for its successor's")
  func forgotten() throws {
    let (first, second) = try KernelSocket.makePair()
    var set = PollSet()
    defer { set.free() }
    Socket.shutDown(second.number)
    set.begin(bell: -1)
    set.setKernel(first.number, reads: true, writes: true)
    set.poll(canSleep: false)
    #expect(set.isReadable(PollSet.kernel) && set.isWritable(PollSet.kernel) && set.hasEnded(PollSet.kernel))
    set.forgetKernel()
    #expect(!set.isReadable(PollSet.kernel) && !set.isWritable(PollSet.kernel) && !set.hasEnded(PollSet.kernel))
  }
}

/// A plain stream whose first sends or receives find no memory.
///
/// Concurrency model: as any transport; what the test asks is under the mutex.
private final class StarvedTransport: RelayTransport {
  private struct State {
    var left: Int
    var first: UInt64 = 0
    var last: UInt64 = 0
  }

  private let inner: PlainTransport
  private let sends: Bool
  private let state: Mutex<State>

  init(_ socket: OpenFile, sends: Bool, refusals: Int) {
    inner = PlainTransport(socket)
    self.sends = sends
    state = Mutex(State(left: refusals))
  }

  var left: Int { state.withLock { $0.left } }
  /// From the first refusal to the last.
  var nanoseconds: UInt64 { state.withLock { $0.last - $0.first } }

  private func refuses() -> Bool {
    state.withLock { state in
      guard state.left > 0 else { return false }
      state.left -= 1
      state.last = monotonicNanoseconds()
      if state.first == 0 { state.first = state.last }
      return true
    }
  }

  var descriptor: Int32 { inner.descriptor }
  var hasBufferedInput: Bool { false }
  var wantsToWrite: Bool { false }
  func flushOutput() -> Transfer { .moved(0) }
  func finishSending() { inner.finishSending() }

  func receive(into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
    !sends && refuses() ? .noMemory : inner.receive(into: buffer)
  }

  func send(_ output: Gather) -> Transfer {
    sends && refuses() ? .noMemory : inner.send(output)
  }
}
