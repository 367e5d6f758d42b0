import Glibc
import LinuxKernel
import Testing

@testable import Attachment

@Suite("the bounds of an attempt")
struct AttemptScopeTests {
  @Test("what waits ends when the deadline passes")
  func deadline() async {
    #expect(await Waiter().run(deadline: .milliseconds(20)) == .failure(.timedOut))
  }

  @Test(
    "a deadline that was lifted, or that is out of reach, ends nothing", arguments: [nil, Duration.seconds(Int64.max)])
  func noDeadline(deadline: Duration?) async {
    #expect(await Waiter().sleep(deadline: deadline) == nil)
  }

  @Test("a cancelled scope does not begin to wait")
  func cancelledBefore() async {
    let waiter = Waiter()
    await waiter.cancel()
    #expect(await waiter.run() == .failure(.cancelled))
    #expect(await waiter.begun == 0)
  }

  @Test("cancelling ends a wait that has begun")
  func cancelledDuring() async throws {
    let waiter = Waiter()
    async let result = waiter.run()
    try await waiter.untilBegun()
    await waiter.cancel()
    #expect(await result == .failure(.cancelled))
    #expect(await waiter.interrupted == 1)
  }

  @Test("cancelling after a wait leaves its value, and ends the next one")
  func cancelledAfter() async throws {
    let waiter = Waiter()
    async let first = waiter.run()
    try await waiter.untilBegun()
    await waiter.finish(7)
    #expect(await first == .success(7))
    await waiter.cancel()
    #expect(await waiter.interrupted == 0)
    #expect(await waiter.run() == .failure(.cancelled))
  }

  @Test("of a value, a cancellation and another value at once, a wait takes one end and no trap")
  func once() async throws {
    let waiter = Waiter()
    async let result = waiter.run()
    try await waiter.untilBegun()
    await waiter.finishThenCancelThenFinish()
    // The value was there, but its scope has ended: nobody goes on with it.
    #expect(await result == .failure(.cancelled))
  }

  @Test("a wait may end before it has begun to wait")
  func immediate() async {
    #expect(await Waiter().immediate() == .success(3))
  }

  @Test("a passed deadline is forgotten for the next server, a cancellation is not")
  func clearing() async {
    let waiter = Waiter()
    #expect(await waiter.run(deadline: .milliseconds(1)) == .failure(.timedOut))
    await waiter.clearTimeout()
    #expect(await waiter.immediate() == .success(3))
    await waiter.cancel()
    await waiter.clearTimeout()
    #expect(await waiter.immediate() == .failure(.cancelled))
  }

  @Test("a cancellation that comes right after the deadline is not lost")
  func cancelledAfterTimeout() async {
    let waiter = Waiter()
    #expect(await waiter.run(deadline: .milliseconds(1)) == .failure(.timedOut))
    await waiter.cancel()
    await waiter.clearTimeout()
    #expect(await waiter.immediate() == .failure(.cancelled))
  }

  @Test("a descriptor is waited for until it is ready, and the same one again")
  func readiness() async throws {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    let (near, far) = (OpenFile(FileDescriptor(owning: ends[0])), OpenFile(FileDescriptor(owning: ends[1])))
    let waiter = Waiter()
    #expect(await waiter.wait(.writable, near) == nil)
    #expect(await waiter.wait(.readable, near, deadline: .milliseconds(20)) == .timedOut)
    await waiter.clearTimeout()
    #expect(send(far.number, "x", 1, 0) == 1)
    #expect(await waiter.wait(.readable, near) == nil)
    #expect(await waiter.wait(.readable, near) == nil)
  }
}

/// An actor with one scope.
private actor Waiter {
  nonisolated let executor = QueueExecutor(label: "waiter")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private lazy var scope = AttemptScope(queue: executor.queue)
  private var finishWait: ((Int?) -> Void)?
  private(set) var begun = 0
  private(set) var interrupted = 0

  /// Waits until `finish`, or the end of the scope.
  func run(deadline: Duration? = nil) async -> Result<Int, AttemptScope.End> {
    scope.setDeadline(after: deadline)
    do throws(AttemptScope.End) {
      return .success(
        try await scope.wait { finish in
          begun += 1
          finishWait = finish
          return {
            self.interrupted += 1
            finish(nil)
          }
        })
    } catch {
      return .failure(error)
    }
  }

  func immediate() async -> Result<Int, AttemptScope.End> {
    do throws(AttemptScope.End) {
      return .success(
        try await scope.wait { finish in
          finish(3)
          return { self.interrupted += 1 }
        })
    } catch {
      return .failure(error)
    }
  }

  func sleep(deadline: Duration?) async -> AttemptScope.End? {
    scope.setDeadline(after: .milliseconds(1))
    scope.setDeadline(after: deadline)
    do throws(AttemptScope.End) { try await scope.sleep(.milliseconds(50)) } catch { return error }
    return nil
  }

  func wait(_ readiness: Readiness, _ file: OpenFile, deadline: Duration? = nil) async -> AttemptScope.End? {
    scope.setDeadline(after: deadline)
    do throws(AttemptScope.End) { try await scope.waitUntil(readiness, file.number) } catch { return error }
    return nil
  }

  func finish(_ value: Int) { finishWait?(value) }

  func finishThenCancelThenFinish() {
    finishWait?(1)
    scope.cancel()
    finishWait?(2)
  }

  func cancel() { scope.cancel() }

  func clearTimeout() { scope.clearTimeout() }

  func untilBegun() async throws {
    while begun == 0 { try await Task.sleep(for: .milliseconds(1)) }
  }
}
