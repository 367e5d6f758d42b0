import Glibc
import Testing

@testable import LinuxKernel

@Suite("threads for calls that block")
struct ThreadTests {
  /// glibc keeps 32 and 33 for itself, and nothing can block SIGKILL and SIGSTOP.
  private static let blockable = (1...64).filter { ![SIGKILL, SIGSTOP, 32, 33].contains(Int32($0)) }.map { Int32($0) }

  @Test("every signal is blocked there, and no other one than before in the thread that starts it")
  func signals() async throws {
    let before = Self.blocked()
    let inside = try await onThread("signals") { Self.blocked() }
    #expect(inside == Self.blockable)
    #expect(Self.blocked() == before)
  }

  @Test("a thread has its name, cut to what the kernel keeps")
  func name() async throws {
    let name = try await onThread("a name of twenty bytes") {
      readSmallFile("/proc/self/task/\(BlockingThread.currentID)/comm")
    }
    #expect(name == "a name of twent")
  }

  @Test("each thread is another, and not the one that starts it")
  func identity() async throws {
    let first = try await onThread("first") { BlockingThread.currentID }
    #expect(first != getpid())
    #expect(first > 0)
  }

  private static func blocked() -> [Int32] {
    var mask = sigset_t()
    pthread_sigmask(SIG_BLOCK, nil, &mask)
    return blockable.filter { sigismember(&mask, $0) == 1 }
  }

  private func onThread<Value: Sendable>(_ name: String, _ body: @escaping @Sendable () -> Value) async throws -> Value
  {
    try await withCheckedThrowingContinuation { continuation in
      do { try BlockingThread.start(name) { continuation.resume(returning: body()) } } catch {
        continuation.resume(throwing: error)
      }
    }
  }
}
