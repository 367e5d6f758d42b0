import Dispatch
import Glibc
import Synchronization
import Testing

@testable import LinuxKernel

@Suite("waiting for descriptors")
struct DescriptorWatcherTests {
  /// Dispatch's own sources end the process here in every second run or so.
  @Test("peers that hang up, one after the other and eight at a time, each end one wait")
  func hangUps() async {
    await withTaskGroup { group in
      for number in 0..<8 {
        group.addTask {
          let queue = DispatchQueue(label: "chain \(number)")
          await withCheckedContinuation { continuation in
            queue.async { waitForHangUps(20_000, on: queue) { continuation.resume() } }
          }
        }
      }
    }
  }

  @Test(
    "what is ready already is told, and nothing else",
    arguments: [
      (Peer.silent, [Readiness.writable]),
      (.sent, [.readable, .writable]),
      (.closedItsSide, [.readable, .writable, .ended]),
      (.closed, [.readable, .writable, .ended, .hungUp]),
    ])
  func ready(peer: Peer, expected: [Readiness]) async throws {
    let (near, far) = try pair()
    switch peer {
    case .silent: break
    case .sent: #expect(send(far.number, "x", 1, 0) == 1)
    case .closedItsSide: #expect(shutdown(far.number, Int32(SHUT_WR)) == 0)
    case .closed: #expect(shutdown(far.number, Int32(SHUT_RDWR)) == 0)
    }
    for readiness in [Readiness.readable, .writable, .ended, .hungUp] {
      // A second socket's event, asked for later, ends the wait for one that does not come.
      let (other, closed) = try pair()
      #expect(shutdown(closed.number, Int32(SHUT_RDWR)) == 0)
      let isReady = await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
        let answer = FirstAnswer(continuation)
        let watcher = DescriptorWatcher.shared
        do {
          let token = try watcher.watch(near.number, for: readiness) { answer.give(true) }
          _ = try watcher.watch(other.number, for: .hungUp) {
            watcher.unwatch(token)
            answer.give(false)
          }
        } catch {
          Issue.record(error)
          answer.give(false)
        }
      }
      #expect(isReady == expected.contains(readiness), "\(readiness)")
      withExtendedLifetime((near, far, other, closed)) {}
    }
  }

  enum Peer { case silent, sent, closedItsSide, closed }

  @Test("a wait is told once, and then the descriptor can be waited for again")
  func again() async throws {
    let (near, far) = try pair()
    let queue = DispatchQueue(label: "waits")
    #expect(send(far.number, "xx", 2, 0) == 2)
    for _ in 0..<3 {
      await withCheckedContinuation { continuation in
        queue.async { _ = DescriptorWait(for: .readable, of: near.number, on: queue) { continuation.resume() } }
      }
    }
    withExtendedLifetime((near, far)) {}
  }

  @Test("a cancelled wait calls nothing, though the descriptor was ready, and lets go of it")
  func cancelled() async throws {
    let queue = DispatchQueue(label: "waits")
    let calls = Mutex(0)
    for _ in 0..<200 {
      let (near, far) = try pair()
      #expect(send(far.number, "x", 1, 0) == 1)
      try queue.sync {
        // The watcher's thread may have seen it by now, but the queue is busy with this.
        let wait = DescriptorWait(for: .readable, of: near.number, on: queue) { calls.withLock { $0 += 1 } }
        wait.cancel()
        // Nobody watches it: else there were an EEXIST.
        let token = try DescriptorWatcher.shared.watch(near.number, for: .hungUp) {}
        DescriptorWatcher.shared.unwatch(token)
      }
      withExtendedLifetime((near, far)) {}
    }
    queue.sync {}
    #expect(calls.withLock { $0 } == 0)
  }

  @Test("a number that was closed in between is a new descriptor's")
  func numbers() async throws {
    for _ in 0..<200 {
      let token: DescriptorWatcher.Token
      do {
        let (near, far) = try pair()
        token = try DescriptorWatcher.shared.watch(near.number, for: .ended) {}
        Socket.shutDown(far.number)
        DescriptorWatcher.shared.unwatch(token)
      }
      let (near, far) = try pair()
      await withCheckedContinuation { continuation in
        do {
          _ = try DescriptorWatcher.shared.watch(near.number, for: .ended) { continuation.resume() }
        } catch {
          Issue.record(error)
          continuation.resume()
        }
        // Of a former descriptor of that number: it must not take away the new one's watch.
        DescriptorWatcher.shared.unwatch(token)
        Socket.shutDown(far.number)
      }
      withExtendedLifetime(near) {}
    }
  }

  @Test("what can't be watched is said, and a wait for it lets its owner look for himself")
  func unwatchable() async throws {
    #expect(throws: SystemCallError("epoll_ctl", EBADF)) {
      try DescriptorWatcher.shared.watch(-1, for: .readable) {}
    }
    let (near, far) = try pair()
    let token = try DescriptorWatcher.shared.watch(near.number, for: .readable) {}
    #expect(throws: SystemCallError("epoll_ctl", EEXIST)) {
      try DescriptorWatcher.shared.watch(near.number, for: .writable) {}
    }
    let queue = DispatchQueue(label: "waits")
    await withCheckedContinuation { continuation in
      queue.async { _ = DescriptorWait(for: .readable, of: near.number, on: queue) { continuation.resume() } }
    }
    DescriptorWatcher.shared.unwatch(token)
    withExtendedLifetime((near, far)) {}
  }
}

/// One after the other, on the queue alone.
private func waitForHangUps(_ count: Int, on queue: DispatchQueue, _ done: @escaping () -> Void) {
  guard count > 0 else { return done() }
  do {
    let (near, far) = try pair()
    Socket.shutDown(far.number)
    _ = DescriptorWait(for: .readable, of: near.number, on: queue) {
      withExtendedLifetime(near) {}
      waitForHangUps(count - 1, on: queue, done)
    }
  } catch {
    Issue.record(error)
    done()
  }
}

private func pair() throws -> (OpenFile, OpenFile) {
  var ends: [Int32] = [0, 0]
  try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
  return (OpenFile(FileDescriptor(owning: ends[0])), OpenFile(FileDescriptor(owning: ends[1])))
}
