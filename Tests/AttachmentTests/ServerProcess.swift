import AttachmentModel
import Dispatch
import Glibc
import LinuxKernel
import Synchronization
import Testing

/// A program that a test needs.
enum Program: String, CaseIterable, Sendable {
  case nbdkit
  case qemuNBD = "qemu-nbd"
  case nbdServer = "nbd-server"

  /// `nil` where it is not installed.
  var path: String? {
    ["/usr/bin", "/usr/sbin", "/bin", "/usr/local/bin"].map { "\($0)/\(rawValue)" }.first { access($0, X_OK) == 0 }
  }
}

extension Trait where Self == ConditionTrait {
  /// Skips where one of the programs is missing, and says which.
  static func requires(_ programs: Program...) -> Self {
    let missing = programs.filter { $0.path == nil }.map(\.rawValue)
    return .enabled(if: missing.isEmpty, "not installed: \(missing.joined(separator: ", "))")
  }
}

extension Trait where Self == ConditionTrait {
  /// Skips where this machine can't reach itself by vsock (the vsock_loopback module).
  static var requiresVsockLoopback: Self {
    .enabled("no vsock loopback") {
      let address = SocketAddress.vsock(cid: 1, port: 1)
      guard let socket = try? Socket.make(for: address) else { return false }
      // Nobody listens on port 1: a transport that is there refuses at once, one that is not times out or has no device.
      do throws(SystemCallError) {
        guard try Socket.connect(socket.number, to: address) == .inProgress else { return true }
      } catch {
        return error.code == ECONNRESET
      }
      var poll = pollfd(fd: socket.number, events: Int16(POLLOUT), revents: 0)
      return Glibc.poll(&poll, 1, 500) == 1 && Socket.takeError(socket.number) == ECONNRESET
    }
  }
}

/// A real NBD server, which ends with its owner.
///
/// Its files are in a directory of its own; what it writes to standard error is in `log`.
final class ServerProcess: Sendable {
  struct Unready: Error, CustomStringConvertible {
    let description: String
  }

  let directory: TemporaryDirectory
  /// Where it listens.
  let address: ServerAddress
  private let pid: Int32
  private let isReaped = Mutex(false)

  private init(_ directory: TemporaryDirectory, _ address: ServerAddress, pid: Int32) {
    self.directory = directory
    self.address = address
    self.pid = pid
  }

  deinit { end(SIGKILL) }

  var log: String { readSmallFile("\(directory.path)/log", limit: 64 << 20) ?? "" }

  func uri(_ export: String = "") -> ServerURI { ServerURI(address: address, exportName: export) }

  /// With TLS, and these parameters.
  func tlsURI(_ export: String = "", _ parameters: [String: String] = [:]) -> ServerURI {
    ServerURI(address: address, exportName: export, usesTLS: true, tlsParameters: parameters)
  }

  /// Sends the signal, and returns when the process is gone.
  func end(_ signal: Int32) {
    isReaped.withLock { isReaped in
      guard !isReaped else { return }
      kill(pid, signal)
      while waitpid(pid, nil, 0) == -1 && errno == EINTR {}
      isReaped = true
    }
  }

  /// Returns when the log has the text; throws when it does not come.
  func waitForLog(_ text: String) async throws {
    try await eventually("the log of the server has \"\(text)\"") { self.log.contains(text) }
  }

  // MARK: The servers

  /// nbdkit with these arguments, on a Unix socket in `directory`; `requests` are served one at a time.
  static func nbdkit(
    _ arguments: String..., in directory: TemporaryDirectory? = nil
  ) async throws -> ServerProcess {
    try await nbdkit(arguments, in: directory)
  }

  static func nbdkit(_ arguments: [String], in directory: TemporaryDirectory? = nil) async throws -> ServerProcess {
    let directory = try directory ?? TemporaryDirectory()
    let socket = "\(directory.path)/socket"
    unlink(socket)
    return try await nbdkit(["-U", socket] + arguments, at: .unix(path: socket), in: directory)
  }

  /// nbdkit with these arguments, on a TCP port of `host` that was free.
  static func nbdkit(onTCP host: String, _ arguments: String...) async throws -> ServerProcess {
    try await nbdkit(onTCP: host, arguments)
  }

  static func nbdkit(onTCP host: String, _ arguments: [String]) async throws -> ServerProcess {
    // Another program may take the port before nbdkit does.
    for _ in 0..<3 {
      let port = try freePort(host)
      if let server = try? await nbdkit(
        ["-i", host, "-p", "\(port)"] + arguments, at: .tcp(host: host, port: port), in: TemporaryDirectory())
      {
        return server
      }
    }
    throw Unready(description: "nbdkit found no free port on \(host)")
  }

  /// nbdkit with these arguments, on a vsock port that this machine reaches as CID 1.
  static func nbdkit(onVsock port: UInt32, _ arguments: String...) async throws -> ServerProcess {
    try await nbdkit(
      ["--vsock", "-p", "\(port)"] + arguments, at: .vsock(cid: 1, port: port), in: TemporaryDirectory())
  }

  private static func nbdkit(
    _ arguments: [String], at address: ServerAddress, in directory: TemporaryDirectory
  ) async throws -> ServerProcess {
    let pidFile = "\(directory.path)/pid"
    unlink(pidFile)
    let common = ["-f", "-v", "-t", "1", "-P", pidFile]
    return try await start(.nbdkit, common + arguments, at: address, in: directory) {
      // Written when it serves.
      readSmallFile(pidFile)?.isEmpty == false
    }
  }

  static func qemuNBD(_ arguments: String..., in directory: TemporaryDirectory? = nil) async throws -> ServerProcess {
    let directory = try directory ?? TemporaryDirectory()
    let socket = "\(directory.path)/socket"
    let pidFile = "\(directory.path)/pid"
    let common = ["--persistent", "--shared=0", "-f", "raw", "--pid-file", pidFile, "-k", socket]
    return try await start(.qemuNBD, common + arguments, at: .unix(path: socket), in: directory) {
      readSmallFile(pidFile)?.isEmpty == false
    }
  }

  /// On a TCP port of `host` that was free.
  static func qemuNBD(onTCP host: String, _ arguments: String...) async throws -> ServerProcess {
    let directory = try TemporaryDirectory()
    let (port, pidFile) = (try freePort(host), "\(directory.path)/pid")
    let common = ["--persistent", "--shared=0", "-f", "raw", "--pid-file", pidFile, "-b", host, "-p", "\(port)"]
    return try await start(.qemuNBD, common + arguments, at: .tcp(host: host, port: port), in: directory) {
      readSmallFile(pidFile)?.isEmpty == false
    }
  }

  /// For one connection, after which it ends. `exports`: the sections of its configuration after `[generic]`.
  static func nbdServer(
    _ exports: String, options: String = "", in directory: TemporaryDirectory? = nil
  ) async throws -> ServerProcess {
    let directory = try directory ?? TemporaryDirectory()
    let socket = "\(directory.path)/socket"
    let port = try freePort("127.0.0.1")
    let configuration = try directory.write(
      """
      [generic]
      listenaddr = 127.0.0.1
      port = \(port)
      unixsock = \(socket)
      \(options)
      \(exports)

      """, to: "nbd-server.conf")
    let arguments = ["-d", "-C", configuration, "-p", "\(directory.path)/pid"]
    return try await start(.nbdServer, arguments, at: .unix(path: socket), in: directory) { isListening(socket) }
  }

  // MARK: Processes

  private static func start(
    _ program: Program, _ arguments: [String], at address: ServerAddress, in directory: TemporaryDirectory,
    isReady: () -> Bool
  ) async throws -> ServerProcess {
    let path = try #require(program.path, "\(program.rawValue) is not installed")
    // Ends with this process even when that crashes; setpriv(1) is of util-linux, which is everywhere.
    let pid = try await Spawner.shared.spawn(
      "/usr/bin/setpriv", ["setpriv", "--pdeathsig", "KILL", path] + arguments, output: "\(directory.path)/log")
    let server = ServerProcess(directory, address, pid: pid)
    do {
      try await eventually("\(program.rawValue) is ready") {
        guard !server.hasEnded else { throw Unready(description: "\(program.rawValue) ended: \(server.log)") }
        return isReady()
      }
    } catch {
      throw Unready(description: "\(error): \(server.log)")
    }
    return server
  }

  private var hasEnded: Bool {
    var information = siginfo_t()
    let flags = WEXITED | WNOHANG | WNOWAIT
    return waitid(P_PID, id_t(pid), &information, flags) == 0 && information.si_signo == SIGCHLD
  }

  /// Known without a connection, which the server would take for its one client.
  private static func isListening(_ path: String) -> Bool {
    let acceptsConnections = "00010000"
    return readSmallFile("/proc/net/unix", limit: 16 << 20)?.split(separator: "\n").contains { line in
      line.hasSuffix(" \(path)") && line.split(separator: " ").dropFirst(3).first == acceptsConnections[...]
    } ?? false
  }
}

/// Starts processes from one thread that lives as long as this process: a server that goes with its parent goes with
/// the *thread* that started it (prctl(2), PR_SET_PDEATHSIG), and those of Dispatch come and go.
///
/// Concurrency model: `jobs` is shared by the callers and that thread, under its mutex.
private final class Spawner: Sendable {
  static let shared = Spawner()

  private let jobs = Mutex<[@Sendable () -> Void]>([])
  private let work = DispatchSemaphore(value: 0)

  func spawn(_ path: String, _ arguments: [String], output: String) async throws -> Int32 {
    try await withCheckedThrowingContinuation { continuation in
      jobs.withLock { $0.append { continuation.resume(with: Result { try Self.spawn(path, arguments, output) }) } }
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

  /// posix_spawn_file_actions_addclosefrom_np(3), which the Glibc module hides (it is a GNU extension of glibc 2.34).
  private static let closeFrom: CloseFrom? = dlsym(nil, "posix_spawn_file_actions_addclosefrom_np").map {
    unsafeBitCast($0, to: CloseFrom.self)
  }
  private typealias CloseFrom =
    @convention(c) @Sendable (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32

  private static func spawn(_ path: String, _ arguments: [String], _ output: String) throws -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    // A pipe of another test would otherwise have no end as long as the server runs.
    _ = closeFrom?(&actions, 3)

    // This thread has all signals blocked, and a child would inherit that.
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))

    var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var pid: Int32 = 0
    let code = posix_spawn(&pid, path, &actions, &attributes, &words, environ)
    guard code == 0 else { throw SystemCallError("posix_spawn \(path)", code) }
    return pid
  }
}

/// A port that nobody listens on now.
func freePort(_ host: String) throws -> UInt16 { try Listener(onTCP: host).port }

/// Returns when the condition holds; throws when it does not within half a minute.
func eventually(_ what: String, _ condition: () throws -> Bool) async throws {
  let deadline = monotonicNow() + 30
  while try !condition() {
    guard monotonicNow() < deadline else { throw ServerProcess.Unready(description: "waited in vain: \(what)") }
    try await Task.sleep(for: .milliseconds(5))
  }
}
