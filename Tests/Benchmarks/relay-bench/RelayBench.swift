import ArgumentParser
import Attachment
import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import Relay
import RelayModel

/// Puts the project's relay between a load and a server, without a kernel that has nbd.
@main
struct RelayBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "relay-bench",
    abstract: "Runs nbd-load on the kernel's end of a relay.",
    discussion: "PROGRAM is started with --negotiated SIZE --watch PID descriptor:3 behind its arguments.")

  @Option(help: "Connections to the server.")
  var links = 1

  @Option(help: "Acknowledged, unflushed writes that are kept, in bytes; 0: none.")
  var unflushedLimit = RelaySettings().unflushedLimit

  @Option(help: "Of the kernel's end and the links, in bytes; default: the system's.")
  var socketBuffer: Int32?

  @Option(help: "Of TLS, as GnuTLS calls it: a priority string.")
  var priority: String?

  @Argument(help: "nbd://HOST:PORT or nbd+unix:///?socket=PATH, or nbds with the parameters of TLS.")
  var uri: String

  @Argument(parsing: .captureForPassthrough, help: "nbd-load and its options, without a target.")
  var program: [String]

  func run() async throws {
    let server: ServerURI
    do { server = try ServerURI(parsing: uri) } catch { throw ValidationError("\(uri): \(error.message)") }
    let relay = try Relay(name: "bench", RelaySettings(unflushedLimit: unflushedLimit)) { event in
      // Nothing but the load's own end belongs into a measurement.
      if case .kernelEnded = event { return }
      let line = "relay-bench: \(event)\n"
      _ = write(2, line, line.utf8.count)
    }
    var tls = TLSSpec()
    tls.priority = priority
    let negotiator = Negotiator()
    var links: [Link] = []
    for _ in 0..<max(self.links, 1) { links.append(try await negotiator.link(server, tls)) }
    guard let export = links.first?.export else { return }
    for link in links { setBuffers(of: link.socket) }
    await relay.add(links.map { RelayLink($0) })

    let kernelEnd = try relay.makeKernelEnd()
    setBuffers(of: kernelEnd)
    let words = program + ["--negotiated", "\(export.size)", "--watch", "\(getpid())", "descriptor:3"]
    let status = try runProgram(words, with: kernelEnd)
    await relay.end()
    throw ExitCode(status)
  }

  /// Past the system's limit where that is allowed.
  private func setBuffers(of file: OpenFile) {
    guard var size = socketBuffer else { return }
    let length = socklen_t(MemoryLayout<Int32>.size)
    for (forced, usual) in [(SO_SNDBUFFORCE, SO_SNDBUF), (SO_RCVBUFFORCE, SO_RCVBUF)] {
      if setsockopt(file.number, SOL_SOCKET, forced, &size, length) != 0 {
        setsockopt(file.number, SOL_SOCKET, usual, &size, length)
      }
    }
  }

  /// Its exit status. Nothing else is to be done on this thread, so it waits here.
  private func runProgram(_ words: [String], with file: OpenFile) throws(SystemCallError) -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_adddup2(&actions, file.number, 3)
    var arguments: [UnsafeMutablePointer<CChar>?] = words.map { strdup($0) }
    arguments.append(nil)
    defer { for argument in arguments { free(argument) } }
    var process: pid_t = 0
    let code = posix_spawnp(&process, words[0], &actions, nil, arguments, environ)
    guard code == 0 else { throw SystemCallError("posix_spawn \(words[0])", code) }
    var status: Int32 = 0
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    return status & 0x7f == 0 ? status >> 8 & 0xff : 1
  }
}

/// What a worker does to get a link.
private actor Negotiator {
  private nonisolated let executor = QueueExecutor(label: "negotiator")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  func link(_ server: ServerURI, _ tls: TLSSpec) async throws(Failure) -> Link {
    try await Connector(server: server, tls: tls, scope: AttemptScope(queue: executor.queue)).link(
      timeout: .seconds(10))
  }
}
