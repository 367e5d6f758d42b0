package import AttachmentModel
import Glibc
package import LinuxKernel
package import NBDProtocol
import Synchronization

/// An NBD server, in this process and on real sockets, whose cache is lost when it crashes.
///
/// Writes, trims and zeroes go to a volatile image and become durable by FLUSH or FUA (and by chance before that, where
/// `Behaviour.earlyWriteBack` says so). A flush does as little as the protocol allows. All connections share the image.
///
///     let server = try ForgetfulServer(size: 1 << 20, seed: 7)
///     let socket = try server.connect()             // or listen(onUnix:), listenOnTCP(), and a URI
///     server.behave { $0.treat = { $0.request.command == .write ? .hold : .serve } }
///     try await server.wait { $0.held == 1 }
///     server.crash(survival: 0.5)                   // each unflushed block survives by chance
///     try server.restart()
///     #expect(server.durable == expected && server.facts.violations.isEmpty)
///
/// It carries out requests on one thread, in the order of their arrival unless `Behaviour.reorders`; the same seed and
/// the same order of arrival give the same bytes. It ends with its last reference.
///
/// Concurrency model: its state is shared by its thread and all callers, under a mutex; what a call did holds when it
/// returns.
package final class ForgetfulServer: Sendable {
  private let core: ServerCore

  package init(size: Int, blockSize: Int = 512, seed: UInt64 = 1) throws {
    core = try ServerCore(ServerState(image: CachedImage(size: size, blockSize: blockSize), seed: seed))
    try core.start()
  }

  deinit { core.stop() }

  // MARK: Ways in

  /// Listens at `path`; may be called again for other addresses.
  @discardableResult
  package func listen(onUnix path: String) throws -> ServerURI {
    try core.listen(.unix(path: path))
  }

  /// Listens on a free port of 127.0.0.1, which stays the same over a crash.
  @discardableResult
  package func listenOnTCP() throws -> ServerURI {
    try core.listen(.tcp(host: "127.0.0.1", port: 0))
  }

  /// One end of a socket pair, nonblocking, that this server serves: in transmission already, unless `handshake`.
  /// Throws ECONNREFUSED while the server is down.
  package func connect(handshake: Bool = false) throws(SystemCallError) -> OpenFile {
    try core.connect(handshake: handshake)
  }

  /// What a client learns of the export now.
  package var export: ExportInfo {
    core.locked { state in
      let offer = state.behaviour.offer
      let size = offer.size ?? UInt64(state.image.visible.count)
      return ExportInfo(name: "", size: size, flags: offer.flags, blockSizes: offer.blockSizes)
    }
  }

  // MARK: What it does

  /// Changes how it behaves, from the next request and the next connection on.
  package func behave(_ change: (inout Behaviour) -> Void) {
    core.locked { change(&$0.behaviour) }
  }

  /// Closes everything, forgets what is not durable and what is held, and refuses connections until `restart`.
  ///
  /// `survival`: the chance (0…1) of each block that is not durable to survive; it also holds for crashes that
  /// `Behaviour.treat` asks for later.
  package func crash(survival: Double = 0) {
    core.locked { state in
      state.survival = survival
      state.crash(survival: survival)
    }
  }

  /// The chance (0…1) of each block to survive crashes that `Behaviour.treat` asks for.
  package func setSurvival(_ survival: Double) {
    core.locked { $0.survival = survival }
  }

  /// Listens again at the same addresses, with the durable image.
  package func restart() throws(SystemCallError) {
    try core.restart()
  }

  /// Closes connections and forgets nothing: one, by its number in `Received`, or all of them.
  package func drop(connection: Int? = nil) {
    core.locked { state in
      for number in connection.map({ [$0] }) ?? state.connections.keys.sorted() { state.close(number) }
    }
  }

  /// Carries out and answers held requests, in the order in which they came; those of connections that are gone too,
  /// without an answer.
  package func finishHeld(where selects: (Received) -> Bool = { _ in true }) {
    core.locked { $0.finishHeld(selects) }
  }

  // MARK: What can be seen

  package var facts: Facts { core.locked { $0.facts } }

  /// All that arrived, in order.
  package var requests: [Received] { core.locked { $0.requests } }

  /// What a read answers.
  package var visible: [UInt8] { core.locked { $0.image.visible } }

  /// What a crash leaves.
  package var durable: [UInt8] { core.locked { $0.image.durable } }

  /// How many blocks a crash would lose now.
  package var unsafeBlockCount: Int { core.locked { $0.image.unsafeBlockCount } }

  /// Returns when the condition holds, looked at after each change; throws when the task is cancelled.
  package func wait(until condition: @escaping @Sendable (Facts) -> Bool) async throws(CancellationError) {
    try await core.wait(until: condition)
  }

  /// Returns when as many requests have arrived since the server was made, of one command or of all.
  package func received(count: Int, of command: CommandCode? = nil) async throws(CancellationError) {
    try await wait { facts in
      (command.map { facts.receivedByCommand[$0] ?? 0 } ?? facts.received) >= count
    }
  }
}
