import AttachmentModel
import LinuxKernel
import Supervision
import Synchronization
import Systemd

/// A supervisor at work: real servers, a kernel that only remembers, and a log that is kept.
///
/// Concurrency model: `entries` is shared by the supervisor and the test, under its mutex.
final class SupervisionLab: Sendable {
  private final class Entries: Sendable {
    let all = Mutex<[JournalEntry]>([])
  }

  let directory: TemporaryDirectory
  let kernel = FakeKernel()
  let uses: FakeUses
  let supervisor: Supervisor
  private let entries = Entries()

  init() throws {
    directory = try TemporaryDirectory()
    uses = try FakeUses()
    let entries = entries
    supervisor = Supervisor(
      log: Log { entry in entries.all.withLock { $0.append(entry) } }, sysfs: uses.sysfs, procfs: uses.procfs,
      deferredInterval: .milliseconds(5), makeDevice: kernel.makeDevice)
  }

  /// What the log was told, less the attachment's name where it is asked for.
  func log(of name: String) -> [String] {
    entries.all.withLock { $0 }.filter { $0.message.hasPrefix(name + ": ") }
      .map { String($0.message.dropFirst(name.count + 2)) }
  }

  /// An attachment that no failure can slow down.
  func spec(_ name: String, _ uri: String, device: DeviceSelection = .anyFree) throws -> AttachmentSpec {
    var spec = AttachmentSpec(name: name, servers: [try ServerURI(parsing: uri)])
    spec.device = device
    spec.retry = RetryPolicy(initial: .milliseconds(1), maximum: .milliseconds(20))
    return spec
  }

  func report(_ name: String) async -> AttachmentReport? {
    await supervisor.reports().first { $0.name == name }
  }

  func wait(for name: String, _ state: AttachmentReport.State) async throws {
    try await eventually("\(name) is \(state)", else: "\(log(of: name))") {
      await self.report(name)?.state == state
    }
  }

  func waitUntilGone(_ name: String) async throws {
    try await eventually("\(name) is gone", else: "\(log(of: name))") { await self.report(name) == nil }
  }

  /// Declares and attaches a last one, after which everything that was declared before has had its effect.
  func settle(_ declared: [AttachmentSpec], _ uri: String) async throws {
    await supervisor.reconcile(declared + [try spec("last", uri)])
    try await wait(for: "last", .attached)
  }

  /// Ends all that runs.
  func end() async {
    kernel.holdOn(false)
    _ = await supervisor.stopAll(timeout: .seconds(1))
  }
}

/// A lab whose attachments are stopped afterwards.
func withLab(_ body: (SupervisionLab) async throws -> Void) async throws {
  let lab = try SupervisionLab()
  do { try await body(lab) } catch {
    await lab.end()
    throw error
  }
  await lab.end()
}
