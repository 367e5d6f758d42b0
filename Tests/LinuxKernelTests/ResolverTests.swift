import Dispatch
import Glibc
import Synchronization
import Testing

@testable import LinuxKernel

@Suite("name look-ups")
struct ResolverTests {
  @Test("a name has all its addresses")
  func localhost() async throws {
    let addresses = try await lookUp("localhost")
    #expect(!addresses.isEmpty)
    #expect(addresses.allSatisfy { ["127.0.0.1 port 10809", "[::1] port 10809"].contains($0.description) })
  }

  @Test("an unknown name fails, and the error names it", arguments: ["nothing.invalid", "", "a..b", "exa mple"])
  func unknown(host: String) async {
    let error = await #expect(throws: Resolver.LookupError.self) { try await lookUp(host) }
    #expect(error?.host == host)
    #expect(error?.description.isEmpty == false)
  }

  @Test("only an answer that there is no such name counts as that")
  func kinds() {
    func error(_ code: Int32) -> Resolver.LookupError { .init(host: "h", code: code, description: "") }
    #expect(error(EAI_NONAME).isUnknownHost)
    #expect(error(-5).isUnknownHost)
    #expect(!error(EAI_AGAIN).isUnknownHost)
    #expect(!error(EAI_SYSTEM).isUnknownHost)
  }

  @Test("an address needs no look-up: it is told before `resolve` returns")
  func numeric() {
    let told = Mutex<[String]>([])
    Resolver().resolve(host: "192.0.2.7", port: 1) { result in
      told.withLock { $0 = (try? result.get().map(\.description)) ?? [] }
    }
    #expect(told.withLock { $0 } == ["192.0.2.7 port 1"])
  }

  @Test("of many questions at once, for one name and for many, each is answered exactly once")
  func many() async {
    let resolver = Resolver()
    // No name server is asked for a label above 63 bytes.
    let label = String(repeating: "n", count: 64)
    let hosts = (0..<60).map { "\(label)\($0 % 40).invalid" } + Array(repeating: "localhost", count: 440)
    let answers = Answers(count: hosts.count)
    await withCheckedContinuation { continuation in
      answers.whenComplete { continuation.resume() }
      DispatchQueue.global().async {
        DispatchQueue.concurrentPerform(iterations: hosts.count) { number in
          resolver.resolve(host: hosts[number], port: 10_809) { result in
            answers.take(number, succeeded: (try? result.get()) != nil)
          }
        }
      }
    }
    let outcome = answers.outcome
    #expect(outcome.allSatisfy { $0.count == 1 })
    #expect(outcome.map(\.succeeded) == hosts.map { $0 == "localhost" })
    // The threads have ended; the resolver starts new ones.
    #expect((try? await lookUp("localhost", by: resolver))?.isEmpty == false)
  }
}

/// Counts the answers to many questions. Shared by the threads that answer, under its mutex.
private final class Answers: Sendable {
  struct Answer {
    var count = 0
    var succeeded = false
  }

  private struct State {
    var answers: [Answer]
    var missing: Int
    var completion: (@Sendable () -> Void)?
  }

  private let state: Mutex<State>

  init(count: Int) { state = Mutex(State(answers: Array(repeating: Answer(), count: count), missing: count)) }

  var outcome: [Answer] { state.withLock { $0.answers } }

  func whenComplete(_ completion: @escaping @Sendable () -> Void) { state.withLock { $0.completion = completion } }

  func take(_ number: Int, succeeded: Bool) {
    let completion = state.withLock { state -> (@Sendable () -> Void)? in
      state.answers[number].count += 1
      state.answers[number].succeeded = succeeded
      state.missing -= 1
      return state.missing == 0 ? state.completion : nil
    }
    completion?()
  }
}
