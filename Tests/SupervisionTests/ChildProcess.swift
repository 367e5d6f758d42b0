import Dispatch
import Foundation
import Glibc
import LinuxKernel
import Synchronization

/// A program that runs until its owner goes, at the latest.
final class ChildProcess: Sendable {
  let pid: Int32
  /// How it ended, once that was asked for.
  private let outcome = Mutex<Int32?>(nil)

  private init(pid: Int32) { self.pid = pid }

  deinit {
    guard outcome.withLock({ $0 }) == nil else { return }
    kill(pid, SIGKILL)
    while waitpid(pid, nil, 0) == -1 && errno == EINTR {}
  }

  /// - Parameters:
  ///   - variables: of the environment, on top of this process's own.
  ///   - output: the file for standard output.
  ///   - errors: the file for standard error.
  static func start(
    _ path: String, _ arguments: [String], variables: [String: String] = [:], output: String, errors: String
  ) async throws -> ChildProcess {
    // Ends with this process even when that crashes; setpriv(1) is of util-linux, which is everywhere.
    let words = ["/usr/bin/setpriv", "--pdeathsig", "KILL", path] + arguments
    return ChildProcess(pid: try await Spawner.shared.spawn(words, variables, output, errors))
  }

  func signal(_ number: Int32) { kill(pid, number) }

  /// Waits for its end; the exit status, or the signal that ended it as a negative number.
  func ended() async throws -> Int32 {
    try await eventually("process \(pid) ends") { self.statusIfEnded != nil }
    return statusIfEnded ?? 0
  }

  /// `nil` while it runs.
  var statusIfEnded: Int32? {
    outcome.withLock { outcome in
      if let outcome { return outcome }
      var status: Int32 = 0
      guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
      let signal = status & 0x7f
      outcome = signal == 0 ? (status >> 8) & 0xff : -signal
      return outcome
    }
  }
}

/// What a program that has ended said.
struct Outcome {
  let status: Int32
  let output: String
  let errors: String
}

/// Runs one of the project's programs, which stand beside the tests' own, to its end.
func run(_ program: String, _ arguments: String...) async throws -> Outcome {
  try await run(program, arguments)
}

/// Runs one of the project's programs, which stand beside the tests' own, to its end.
func run(_ program: String, _ arguments: [String]) async throws -> Outcome {
  let directory = try TemporaryDirectory()
  let (output, errors) = ("\(directory.path)/output", "\(directory.path)/errors")
  let child = try await ChildProcess.start(built(program), arguments, output: output, errors: errors)
  let status = try await child.ended()
  return Outcome(status: status, output: try text(of: output), errors: try text(of: errors))
}

/// The path of one of the project's programs.
func built(_ program: String) -> String {
  URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().appending(path: program).path
}

func text(of file: String) throws -> String { try String(contentsOfFile: file, encoding: .utf8) }

/// Starts processes from one thread that lives as long as this process: a child that goes with its parent goes with
/// the *thread* that started it (prctl(2), PR_SET_PDEATHSIG), and those of Dispatch come and go.
///
/// Concurrency model: `jobs` is shared by the callers and that thread, under its mutex.
private final class Spawner: Sendable {
  static let shared = Spawner()

  private let jobs = Mutex<[@Sendable () -> Void]>([])
  private let work = DispatchSemaphore(value: 0)

  func spawn(
    _ words: [String], _ variables: [String: String], _ output: String, _ errors: String
  ) async throws -> Int32 {
    try await withCheckedThrowingContinuation { continuation in
      jobs.withLock {
        $0.append { continuation.resume(with: Result { try Self.spawn(words, variables, output, errors) }) }
      }
      work.signal()
    }
  }

  private init() {
    do { try BlockingThread.start("spawner") { self.run() } } catch { fatalError("\(error)") }
  }

  private func run() {
    while true {
      work.wait()
      jobs.withLock { $0.removeFirst() }()
    }
  }

  private static func spawn(
    _ words: [String], _ variables: [String: String], _ output: String, _ errors: String
  ) throws -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_APPEND, 0o600)

    // This thread has all signals blocked, and a child would inherit that.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))

    let inherited = ProcessInfo.processInfo.environment.filter { !managerVariables.contains($0.key) }
    let environment = inherited.merging(variables) { $1 }.map { "\($0.key)=\($0.value)" }
    let arguments = pointers(words)
    let settings = pointers(environment)
    defer { for pointer in arguments + settings { free(pointer) } }
    var pid: Int32 = 0
    let code = posix_spawn(&pid, words[0], &actions, &attributes, arguments, settings)
    guard code == 0 else { throw SystemCallError("posix_spawn \(words)", code) }
    return pid
  }

  /// By which a program would believe that systemd runs it.
  private static let managerVariables: Set<String> = [
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM",
  ]

  private static func pointers(_ texts: [String]) -> [UnsafeMutablePointer<CChar>?] { texts.map { strdup($0) } + [nil] }
}
