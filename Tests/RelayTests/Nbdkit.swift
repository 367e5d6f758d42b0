import Attachment
import AttachmentModel
import Dispatch
import Glibc
import LinuxKernel
import Synchronization

@testable import Relay

/// A real nbdkit that serves a file on a Unix socket, and can be killed and started again.
///
/// Concurrency model: `pid` is shared by the caller and the thread that started the process and waits for it, under its
/// mutex.
final class Nbdkit: Sendable {
  private final class Cell: Sendable {
    let value = Mutex<pid_t>(0)
  }

  static let path: String? = ["/usr/sbin/nbdkit", "/usr/bin/nbdkit"].first { (path: String) in access(path, X_OK) == 0 }

  let directory: String
  private let pid = Cell()
  private var socketPath: String { "\(directory)/s" }

  private let options: [String]

  /// `options`: before the plugin's name.
  init(size: Int, options: [String] = []) throws {
    self.options = options
    var template = Array("/tmp/relay-test-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else { throw SystemCallError("mkdtemp", errno) }
    directory = String(decoding: template.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let file = open("\(directory)/disk", O_CREAT | O_RDWR, 0o600)
    ftruncate(file, off_t(size))
    close(file)
  }

  deinit {
    stop(SIGKILL)
    for name in ["s", "disk"] { unlink("\(directory)/\(name)") }
    rmdir(directory)
  }

  /// `--exit-with-parent` looks at the thread that started it: this one stays.
  func start() throws {
    unlink(socketPath)
    let words =
      [Nbdkit.path ?? "nbdkit", "-f", "--exit-with-parent", "-U", socketPath] + options + ["file", "\(directory)/disk"]
    let pid = pid
    try BlockingThread.start("nbdkit") {
      var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) } + [nil]
      defer { for argument in arguments { free(argument) } }
      // This thread has all signals blocked, and a child would inherit that.
      var attributes = posix_spawnattr_t()
      posix_spawnattr_init(&attributes)
      defer { posix_spawnattr_destroy(&attributes) }
      var none = sigset_t()
      sigemptyset(&none)
      posix_spawnattr_setsigmask(&attributes, &none)
      posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
      var child: pid_t = 0
      guard posix_spawn(&child, words[0], nil, &attributes, &arguments, environ) == 0 else { return }
      pid.value.withLock { $0 = child }
      while waitpid(child, nil, 0) == -1 && errno == EINTR {}
      pid.value.withLock { $0 = 0 }
    }
  }

  /// Returns when the process is gone.
  func stop(_ signal: Int32) {
    let child = pid.value.withLock { $0 }
    guard child > 0 else { return }
    kill(child, signal)
    while pid.value.withLock({ $0 == child }) { usleep(1000) }
  }

  /// A link after the shortest handshake there is, NBD_OPT_EXPORT_NAME; waits for a server that is starting.
  func link() async throws -> OpenFile {
    let address = try SocketAddress.unix(path: socketPath, isAbstract: false)
    for _ in 0..<2000 {
      let socket = OpenFile(try Socket.make(for: address))
      if (try? Socket.connect(socket.number, to: address)) == .connected {
        let client = FakeKernel(socket)
        _ = fcntl(socket.number, F_SETFL, 0)
        _ = try client.take(18)
        try client.sendBytes([0, 0, 0, 3] + Array("IHAVEOPT".utf8) + [0, 0, 0, 1, 0, 0, 0, 0])
        _ = try client.take(10)
        _ = fcntl(socket.number, F_SETFL, O_NONBLOCK)
        return socket
      }
      try await Task.sleep(for: .milliseconds(5))
    }
    throw SystemCallError("connect", ETIMEDOUT)
  }

  /// A link as the daemon makes one, under TLS; waits for a server that is starting.
  func secureLink(_ tls: TLSSpec) async throws -> any RelayTransport {
    let server = ServerURI(address: .unix(path: socketPath), usesTLS: true)
    for _ in 0..<2000 {
      do throws(Failure) {
        let link = try await SecureClient().link(server, tls)
        guard let session = link.tls else { throw Failure(.negotiating, "no TLS", advice: .giveUp) }
        return SecureTransport(link.socket, session)
      } catch {
        guard error.phase == .connecting else { throw error }
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    throw SystemCallError("connect", ETIMEDOUT)
  }
}

/// Where a connector runs.
private actor SecureClient {
  private nonisolated let executor = QueueExecutor(label: "secure client")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  func link(_ server: ServerURI, _ tls: TLSSpec) async throws(Failure) -> Link {
    try await Connector(server: server, tls: tls, scope: AttemptScope(queue: executor.queue)).link(
      timeout: .seconds(30))
  }
}
