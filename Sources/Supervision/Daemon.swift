import Attachment
import AttachmentModel
package import Configuration
import Control
import Dispatch
import Glibc
import LinuxKernel
import Relay
import Systemd

/// The daemon's life: reads the configuration, starts the supervisor, tells systemd, obeys signals.
///
/// Concurrency model: an actor on the supervisor's queue, so that both see one order of events and it can ask the
/// supervisor without waiting. Only a start and a stop wait; whatever follows a wait looks at the phase again.
package actor Daemon {
  package struct Options: Sendable {
    package var paths: ConfigurationPaths
    package var controlPath: String
    /// Where what the next process needs is kept.
    package let statePath: String
    /// Least urgent entries that standard error gets.
    package var isVerbose: Bool

    package init(
      paths: ConfigurationPaths, controlPath: String, isVerbose: Bool = false
    ) {
      self.paths = paths
      self.controlPath = controlPath
      // Beside the socket, so that two daemons that don't share one don't share the other either.
      let folderEnd = controlPath.lastIndex(of: "/").map { controlPath.index(after: $0) } ?? controlPath.startIndex
      statePath = controlPath[..<folderEnd] + "devices"
      self.isVerbose = isVerbose
    }
  }

  private enum Phase {
    /// `reloadWanted`: a reload was asked for meanwhile.
    case starting(reloadWanted: Bool)
    case running
    case stopping
  }

  package nonisolated var unownedExecutor: UnownedSerialExecutor { supervisor.unownedExecutor }

  private let options: Options
  private let problems: [String]
  private let backgroundLog: BackgroundLog
  private let log: Log
  private let manager: ServiceManager
  private let supervisor: Supervisor
  private let kernel: NetlinkKernel
  private let budget: RelayBudget
  private var audit: (any DispatchSourceTimer)?
  private var phase = Phase.starting(reloadWanted: false)
  private var report: DaemonReport
  private var settings = DaemonSettings()
  private var control: ControlServer?
  private var signals: [any DispatchSourceSignal] = []
  private var watchdog: (any DispatchSourceTimer)?
  private var isStatusDue = false
  /// Who waits for a reload that has not begun.
  private var reloadWaiters: [CheckedContinuation<Result<Void, ActionError>, Never>] = []

  /// What the daemon needs because memory is written to disks through it; to be called before there is a second thread.
  /// What could not be had, in words.
  package static func enterIOPath() -> [String] {
    var problems: [String] = []
    do throws(SystemCallError) { try MemorySafety.becomeIOFlusher() } catch {
      problems.append("\(error)")
    }
    do throws(SystemCallError) { try MemorySafety.lockTouchedMemory() } catch {
      problems.append("\(error)")
    }
    return problems
  }

  /// - Parameter problems: what `enterIOPath` could not do.
  package init(_ options: Options, problems: [String] = []) {
    self.problems = problems
    self.options = options
    backgroundLog = BackgroundLog(
      Log(LogDestination.detected(), threshold: options.isVerbose ? .debug : .info))
    log = backgroundLog.log
    manager = ServiceManager.fromEnvironment()
    report = DaemonReport(pid: getpid(), started: wallClockNow())
    let registry = DeviceRegistry()
    let kernel = NetlinkKernel(registry: registry)
    self.kernel = kernel
    let budget = RelayBudget(bytes: Int(clamping: settings.unflushedBudget))
    self.budget = budget
    let (log, manager) = (log, manager)
    supervisor = Supervisor(
      log: log, kernel: kernel, store: DeviceStore(path: options.statePath), budget: budget,
      keepLinks: { index, sockets, areRelayed in
        let kind = areRelayed ? StoredFile.relayLink : .link
        do throws(SystemdError) {
          for kind in [StoredFile.link, .relayLink] { try manager.removeFromStore(name: kind.name(index)) }
          if !sockets.isEmpty { try manager.store(sockets.map(\.number), name: kind.name(index)) }
        } catch {
          log(.warning, "/dev/nbd\(index): its links can't be kept for the next start: \(error)")
        }
      },
      keepLegacy: { index, file in
        do throws(SystemdError) {
          try manager.removeFromStore(name: StoredFile.legacy.name(index))
          guard let file else { return true }
          try manager.store([file.number], name: StoredFile.legacy.name(index))
          return manager.isPresent
        } catch {
          log(.warning, "/dev/nbd\(index): what is not flushed can't be kept for the next start: \(error)")
          return false
        }
      },
      makeDevice: { spec async throws(Failure) in
        let device = try await Daemon.device(for: spec, kernel)
        return spec.isRelayed ? RelayedDevice(device, spec, budget: budget) : device
      })
  }

  private static func device(
    for spec: AttachmentSpec, _ kernel: NetlinkKernel
  ) async throws(Failure) -> any KernelDevice {
    let datapath = spec.datapath ?? .relay
    let classic = {
      IoctlDevice(name: spec.name, selection: spec.device, registry: kernel.registry, datapath: datapath)
    }
    if spec.kernelInterface == .ioctl { return classic() }
    switch await kernel.unavailability() {
    case nil:
      return NetlinkDevice(name: spec.name, selection: spec.device, kernel: kernel, datapath: datapath)
    case .unavailable where spec.kernelInterface == nil:
      return classic()
    case .some(let error):
      // A kernel that does not answer now is no reason to do with less for ever.
      throw Failure(.binding, "\(error)", hint: error.hint, errnoCode: error.code, advice: .retry)
    }
  }

  /// Starts and returns; the process then belongs to Dispatch, and ends by `exit` when a signal asks for it.
  package func start() async {
    await watchSignals()
    guard case .starting = phase else { return }
    if !problems.isEmpty {
      let what = problems.joined(separator: ", ")
      log(.warning, "\(what): I/O may get stuck when memory is short, proceeding anyway")
    }
    startWatchdog()
    guard await startControl() else {
      phase = .stopping
      await end(EXIT_FAILURE)
    }
    await supervisor.onChange { [weak self] in
      guard let self else { return }
      assumeIsolated { $0.statusChanged() }
    }
    guard case .starting = phase else { return }
    let loaded = load()
    if loaded.configuration == nil {
      let share = "\(loaded.sound.attachments.count) of \(loaded.attachmentCount)"
      log(.warning, "the configuration has errors: only what is right of it is in force, attachments: \(share)")
    }
    obey(loaded.sound.daemon)
    adopt(loaded.sound.attachments)
    reconcile(loaded.sound.attachments)
    let limit = settings.startupTimeout
    tell([.extendTimeout(limit + .seconds(30))])
    let untried = await supervisor.firstTries(within: limit)
    guard case .starting(let reloadWanted) = phase else { return }
    if !untried.isEmpty {
      let more = untried.count > 3 ? " and \(untried.count - 3) more" : ""
      log(
        .warning,
        "the first try of \(untried.prefix(3).joined(separator: ", "))\(more) goes on beyond the startup-timeout, "
          + "proceeding anyway")
    }
    phase = .running
    tell([.ready, .status(snapshot().sentence)])
    if reloadWanted { reload() }
  }

  // MARK: Devices that outlive a process

  private func adopt(_ declared: [AttachmentSpec]) {
    kernel.listen { [log] problem in log(.warning, problem) }
    startAudit()
    var kept: [StoredFile: [Int: [OpenFile]]] = [:]
    do throws(SystemdError) {
      for (name, number) in try ListenDescriptors.take() {
        let file = OpenFile(FileDescriptor(owning: number))
        guard let (kind, index) = StoredFile.parse(name) else { continue }
        kept[kind, default: [:]][index, default: []].append(file)
      }
    } catch {
      log(.warning, "the links of the former process can't be had: \(error), proceeding without them")
    }
    // Run by hand with a configuration of its own, it is not the only daemon: what it does not know is another's.
    let detachesOrphans = options.paths == .standard
    supervisor.assumeIsolated {
      $0.adopt(
        declared: declared, links: kept[.link] ?? [:], relayLinks: kept[.relayLink] ?? [:],
        legacies: kept[.legacy] ?? [:], detachingOrphans: detachesOrphans)
    }
  }

  /// Events can be lost, and not every death makes one.
  private func startAudit() {
    let timer = DispatchSource.makeTimerSource(queue: .global())
    timer.setEventHandler { [kernel] in kernel.audit() }
    timer.schedule(deadline: .now() + 30, repeating: 30, leeway: .seconds(3))
    timer.activate()
    audit = timer
  }

  // MARK: Configuration

  private func load() -> LoadedConfiguration {
    let loaded = ConfigurationLoader.load(options.paths)
    for diagnostic in loaded.diagnostics {
      log(
        diagnostic.severity == .error ? .error : .warning, diagnostic.description,
        id: diagnostic.severity == .error ? .configurationRejected : nil)
    }
    if loaded.configuration != nil {
      report.configurationError = nil
      report.configurationLoaded = wallClockNow()
      log(.info, "configuration read: \(loaded.summary)", id: .configurationLoaded)
    } else {
      let first = loaded.diagnostics.first { $0.severity == .error }?.description ?? "an error"
      let more = loaded.errorCount > 1 ? ", and \(loaded.errorCount - 1) more" : ""
      report.configurationError = first + more
    }
    return loaded
  }

  private func obey(_ settings: DaemonSettings) {
    self.settings = settings
    budget.setLimit(Int(clamping: settings.unflushedBudget))
  }

  private func reload() {
    switch phase {
    case .starting: phase = .starting(reloadWanted: true)
    case .running: reloadNow()
    case .stopping: break
    }
  }

  private func reloadNow() {
    tell([.reloading(), .status("reading the configuration")])
    let waiters = reloadWaiters
    reloadWaiters = []
    let loaded = load()
    if let configuration = loaded.configuration {
      obey(configuration.daemon)
      reconcile(configuration.attachments)
    } else {
      log(
        .error, "the configuration has errors: the one in force stays as it is (\(loaded.summary))",
        id: .configurationRejected)
    }
    let errors = loaded.diagnostics.filter { $0.severity == .error }.map(\.description)
    for waiter in waiters {
      waiter.resume(
        returning: errors.isEmpty ? .success(()) : .failure(.configurationRefused(errors: errors)))
    }
    tell([.ready, .status(snapshot().sentence)])
  }

  private func reconcile(_ attachments: [AttachmentSpec]) {
    supervisor.assumeIsolated { $0.reconcile(attachments) }
  }

  /// Reads the configuration again, and returns when it is in force.
  private func reloadForClient() async throws(ActionError) {
    if case .stopping = phase { throw .stopping }
    let result = await withCheckedContinuation { continuation in
      reloadWaiters.append(continuation)
      Task { reload() }
    }
    try result.get()
  }

  // MARK: What is seen from outside

  private func snapshot(withStatistics: Bool = false) -> StatusSnapshot {
    StatusSnapshot(
      daemon: report, attachments: supervisor.assumeIsolated { $0.reports(withStatistics: withStatistics) })
  }

  private func startControl() async -> Bool {
    var actions = ControlActions()
    let supervisor = supervisor
    actions.start = { name, wait, timeout async throws(ActionError) in
      try await supervisor.start(name, wait: wait, timeout: timeout)
    }
    actions.stop = { name, force async throws(ActionError) in try await supervisor.stop(name, force: force) }
    actions.restart = { name async throws(ActionError) in try await supervisor.restart(name) }
    actions.retry = { name async throws(ActionError) in try await supervisor.retry(name) }
    actions.reconnect = { name async throws(ActionError) in try await supervisor.reconnect(name) }
    actions.refresh = { name async throws(ActionError) in try await supervisor.refresh(name) }
    actions.move = { name, uri async throws(ActionError) in try await supervisor.move(name, to: uri) }
    actions.acknowledge = { name async throws(ActionError) in try await supervisor.acknowledge(name) }
    actions.endHolding = { limit async throws(ActionError) in
      await supervisor.endHolding(after: limit)
    }
    actions.reload = { [weak self] () async throws(ActionError) in try await self?.reloadForClient() }
    let server = ControlServer(path: options.controlPath, actions: actions) { [weak self] in
      guard let self else { return StatusSnapshot(daemon: DaemonReport(pid: getpid(), started: 0)) }
      return await snapshot(withStatistics: true)
    }
    // Before it is asked to begin, so that a stop meanwhile ends it too.
    control = server
    do throws(ControlError) {
      try await server.start()
      return true
    } catch {
      control = nil
      guard case .alreadyServed = error else {
        log(.warning, "\(error), proceeding without the control socket: nbdattach status will not work")
        return true
      }
      log(.error, "\(error)")
      return false
    }
  }

  /// Many changes at once make one STATUS=.
  private func statusChanged() {
    guard !isStatusDue else { return }
    isStatusDue = true
    supervisor.executor.queue.asyncAfter(deadline: .now() + 0.05) {
      self.assumeIsolated { $0.sendStatus() }
    }
  }

  private func sendStatus() {
    isStatusDue = false
    switch phase {
    case .starting, .running: tell([.status(snapshot().sentence)])
    case .stopping: break
    }
  }

  private func tell(_ notifications: [Notification]) {
    do { try manager.notify(notifications) } catch { log(.warning, "\(error), ignoring") }
  }

  /// Half the interval, from the queue on which everything is decided: a queue that hangs is a daemon that hangs.
  private func startWatchdog() {
    guard let interval = manager.watchdogInterval else { return }
    let timer = DispatchSource.makeTimerSource(queue: supervisor.executor.queue)
    timer.setEventHandler { [weak self] in self?.assumeIsolated { $0.tell([.watchdog]) } }
    timer.schedule(deadline: .now(), repeating: interval.inSeconds / 2)
    timer.activate()
    watchdog = timer
  }

  // MARK: Signals

  /// Returns when they are watched, before there is anything to leave behind: until then SIGTERM and SIGINT end the
  /// process as they would any other.
  private func watchSignals() async {
    signal(SIGPIPE, SIG_IGN)
    // The configuration is not read yet, so that a reload has nothing to do.
    signal(SIGHUP, SIG_IGN)
    for (number, body) in [
      (SIGHUP, { @Sendable (daemon: Daemon) in await daemon.reload() }),
      (SIGTERM, { @Sendable (daemon: Daemon) in await daemon.stop() }),
      (SIGINT, { @Sendable (daemon: Daemon) in await daemon.stop() }),
      // From systemd, where it restarts the service (RestartKillSignal=).
      (SIGUSR1, { @Sendable (daemon: Daemon) in await daemon.stop(handingOver: true) }),
    ] {
      let source = DispatchSource.makeSignalSource(signal: number, queue: supervisor.executor.queue)
      source.setEventHandler { [weak self] in
        guard let self else { return }
        Task { await body(self) }
      }
      await withCheckedContinuation { continuation in
        source.setRegistrationHandler { continuation.resume() }
        source.activate()
      }
      signals.append(source)
    }
  }

  private func stop(handingOver: Bool = false) async {
    if case .stopping = phase { return }
    phase = .stopping
    for waiter in reloadWaiters { waiter.resume(returning: .failure(.stopping)) }
    reloadWaiters = []
    let timeout = settings.stopTimeout
    let status = handingOver ? "handing the devices over" : "detaching"
    tell([.stopping, .status(status), .extendTimeout(timeout + Supervisor.stopMargin + .seconds(5))])
    let hasEnded =
      handingOver ? await supervisor.handOverAll(timeout: timeout) : await supervisor.stopAll(timeout: timeout)
    if !hasEnded { log(.warning, "not everything has ended within the stop-timeout, proceeding anyway") }
    await control?.stop()
    // What was put into the store must be there before this process is gone.
    try? manager.synchronize(within: .seconds(3))
    log(.info, "the daemon ends")
    await end(EXIT_SUCCESS)
  }

  private func end(_ status: Int32) async -> Never {
    await backgroundLog.flush(within: .seconds(2))
    exit(status)
  }
}
