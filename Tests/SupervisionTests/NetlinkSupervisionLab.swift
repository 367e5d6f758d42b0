import Attachment
import AttachmentModel
import FakeDriver
import Glibc
import LinuxKernel
import NBDProtocol
import Relay
import Supervision
import Synchronization
import Systemd
import Testing

/// The kernel and the files that outlive a daemon, with one supervisor after the other over them: real servers, devices
/// of netlink's over a fake driver, and a log that is kept.
///
/// Numbers are such as no machine has, so that no real device is ever opened. Concurrency model: `state` is shared by
/// the supervisors and the test, under its mutex.
final class NetlinkSupervisionLab: Sendable {
  private final class State: Sendable {
    let entries = Mutex<[JournalEntry]>([])
    /// In the service manager's store, by device number.
    let kept = Mutex<[Int: [OpenFile]]>([:])
    let keptOfRelays = Mutex<[Int: [OpenFile]]>([:])
    /// The same, of what relays have left.
    let legacies = Mutex<[Int: OpenFile]>([:])
    let keepsLegacies = Mutex(true)
  }

  /// One process: what it knows is gone with it.
  final class Process: Sendable {
    let kernel: NetlinkKernel
    let supervisor: Supervisor

    init(_ kernel: NetlinkKernel, _ supervisor: Supervisor) {
      self.kernel = kernel
      self.supervisor = supervisor
    }
  }

  let directory: TemporaryDirectory
  let driver: FakeDriver
  private let state = State()
  private let processes = Mutex<[Process]>([])

  init() throws {
    directory = try TemporaryDirectory()
    driver = FakeDriver(root: directory.path)
    try directory.write("", to: "proc/self/mountinfo")
    try directory.write("Filename\n", to: "proc/swaps")
  }

  var store: DeviceStore { DeviceStore(path: "\(directory.path)/devices") }

  /// A daemon begins: it takes over what there is, then does what is declared.
  func start(
    _ declared: [AttachmentSpec], keepingLinks: Bool = true, detachingOrphans: Bool = true
  ) async -> Process {
    let (state, driver) = (state, driver)
    let kernel = NetlinkKernel(
      netlink: driver.netlink, registry: DeviceRegistry(sysfs: driver.sysfs), nodes: directory.path)
    driver.announceDeaths { [weak kernel] index in kernel?.take(.linkDead(index: index)) { _ in } }
    let supervisor = Supervisor(
      log: Log { entry in state.entries.withLock { $0.append(entry) } }, sysfs: driver.sysfs,
      procfs: "\(directory.path)/proc", deferredInterval: .milliseconds(5), kernel: kernel, store: store,
      keepLinks: { index, sockets, areRelayed in
        let copies = sockets.compactMap { OpenFile.duplicating($0.number) }
        state.kept.withLock { $0[index] = copies.isEmpty || areRelayed ? nil : copies }
        state.keptOfRelays.withLock { $0[index] = copies.isEmpty || !areRelayed ? nil : copies }
      },
      keepLegacy: { index, file in
        guard state.keepsLegacies.withLock({ $0 }) else { return file == nil }
        let copy = file.flatMap { OpenFile.duplicating($0.number) }
        state.legacies.withLock { $0[index] = copy }
        return true
      },
      makeDevice: { spec in
        let device = NetlinkDevice(
          name: spec.name, selection: spec.device, kernel: kernel, datapath: spec.datapath ?? .relay)
        return spec.isRelayed ? RelayedDevice(device, spec, budget: RelayBudget(bytes: 1 << 20)) : device
      })
    let process = Process(kernel, supervisor)
    processes.withLock { $0.append(process) }
    let links = keepingLinks ? kept : [:]
    await supervisor.adopt(
      declared: declared, links: links, relayLinks: keepingLinks ? keptOfRelays : [:],
      legacies: legacies.mapValues { [$0] },
      detachingOrphans: detachingOrphans)
    await supervisor.reconcile(declared)
    return process
  }

  /// What the service manager keeps.
  var kept: [Int: [OpenFile]] { state.kept.withLock { $0 } }
  /// The same of relays' links.
  var keptOfRelays: [Int: [OpenFile]] { state.keptOfRelays.withLock { $0 } }
  /// As a former process has left it.
  func keepOfRelay(_ link: OpenFile, of index: Int) { state.keptOfRelays.withLock { $0[index] = [link] } }
  /// Copies, as each process gets.
  var legacies: [Int: OpenFile] {
    state.legacies.withLock { $0 }.compactMapValues { OpenFile.duplicating($0.number) }
  }
  func setLegacy(_ file: OpenFile?, of index: Int) { state.legacies.withLock { $0[index] = file } }
  /// Without a service manager nobody keeps anything.
  func keepNoLegacies() { state.keepsLegacies.withLock { $0 = false } }

  func spec(
    _ name: String, _ uri: String, device: Int, adjust: (inout AttachmentSpec) -> Void = { _ in }
  ) throws -> AttachmentSpec {
    var spec = AttachmentSpec(name: name, servers: [try ServerURI(parsing: uri)])
    spec.device = .index(device)
    spec.datapath = .direct
    spec.retry = RetryPolicy(initial: .milliseconds(1), maximum: .milliseconds(20))
    adjust(&spec)
    return spec
  }

  /// Devices are mounted, by number.
  func mount(_ points: [Int: String]) throws {
    let lines = points.map { "36 35 43:\($0.key) / \($0.value) rw,noatime shared:1 - ext4 /dev/x rw\n" }
    try directory.write(lines.joined(), to: "proc/self/mountinfo")
  }

  func log(of name: String) -> [String] {
    state.entries.withLock { $0 }.filter { $0.message.hasPrefix(name + ": ") }
      .map { String($0.message.dropFirst(name.count + 2)) }
  }

  func commands(of index: Int) -> [FakeRequest.Command] {
    driver.requests.filter { $0.index == index }.map(\.command)
  }

  func report(_ name: String, _ process: Process) async -> AttachmentReport? {
    await process.supervisor.reports().first { $0.name == name }
  }

  func wait(for name: String, _ state: AttachmentReport.State, _ process: Process) async throws {
    try await eventually("\(name) is \(state)", else: "\(log(of: name))") {
      await self.report(name, process)?.state == state
    }
  }

  /// Somebody else detaches it.
  func disconnect(_ index: Int) async throws {
    try await driver.netlink.disconnect(index: index, within: .seconds(10))
    try await waitUntilDetached(index)
  }

  func waitUntilDetached(_ index: Int) async throws {
    try await eventually("/dev/nbd\(index) is detached") { self.driver.sysfs.backend(of: index) == nil }
  }

  /// The process hands its devices over, and is gone.
  func handOver(_ process: Process) async throws {
    #expect(await process.supervisor.handOverAll(timeout: .seconds(20)))
  }

  func end() async {
    for process in processes.withLock({ $0 }) {
      _ = await process.supervisor.stopAll(timeout: .seconds(1), margin: .seconds(1))
    }
  }
}

func withNetlinkLab(_ body: (NetlinkSupervisionLab) async throws -> Void) async throws {
  let lab = try NetlinkSupervisionLab()
  do { try await body(lab) } catch {
    await lab.end()
    throw error
  }
  await lab.end()
}
