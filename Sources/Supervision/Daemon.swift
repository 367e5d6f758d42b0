import Attachment
import AttachmentModel
package import Configuration
import Control
import Dispatch
import Glibc
import LinuxKernel
import Systemd

/// The daemon's life: reads the configuration, starts the supervisor, tells systemd, obeys signals.
///
/// Concurrency model: an actor on the supervisor's queue, so that both see one order of events; a reload and a stop
/// are tasks on it, one at a time.
package actor Daemon {
  package struct Options: Sendable {
    package var paths: ConfigurationPaths
    package var controlPath: String
    /// Least urgent entries that standard error gets.
    package var isVerbose: Bool

    package init(paths: ConfigurationPaths, controlPath: String, isVerbose: Bool = false) {
      self.paths = paths
      self.controlPath = controlPath
      self.isVerbose = isVerbose
    }
  }

  private enum Phase {
    /// `reload`: asked for meanwhile.
    case starting(reload: Bool)
    case running
    case reloading(again: Bool)
    case stopping
  }

  package nonisolated var unownedExecutor: UnownedSerialExecutor { supervisor.unownedExecutor }

  private let options: Options
  private let log: Log
  private let manager: ServiceManager
  private let supervisor: Supervisor
  private var phase = Phase.starting(reload: false)
  private var report: DaemonReport
  private var settings = DaemonSettings()
  private var control: ControlServer?
  private var signals: [any DispatchSourceSignal] = []
  private var watchdog: (any DispatchSourceTimer)?
  private var isStatusDue = false
  /// Who waits for a reload that has not begun.
  private var reloadWaiters: [CheckedContinuation<Result<Void, ActionError>, Never>] = []

  package init(_ options: Options) {
    self.options = options
    log = Log(LogDestination.detected(), threshold: options.isVerbose ? .debug : .info)
    manager = ServiceManager.fromEnvironment()
    report = DaemonReport(pid: getpid(), started: wallClockNow())
    let registry = DeviceRegistry()
    supervisor = Supervisor(log: log) { spec in
      IoctlDevice(name: spec.name, selection: spec.device, registry: registry)
    }
  }

  /// Starts and returns; the process then belongs to Dispatch, and ends by `exit` when a signal asks for it.
  package func start() async {
    watchSignals()
    startWatchdog()
    guard await startControl() else { exit(EXIT_FAILURE) }
    await supervisor.onChange { [weak self] in
      guard let self else { return }
      assumeIsolated { $0.statusChanged() }
    }
    let loaded = load()
    settings = loaded.sound.daemon
    await supervisor.reconcile(loaded.sound.attachments)
    let limit = settings.startupTimeout
    tell([.extendTimeout(limit + .seconds(30))])
    if await !supervisor.firstTries(within: limit) {
      log(.warning, "not every attachment has been tried within the startup-timeout, proceeding anyway")
    }
    guard case .starting(let reloadWanted) = phase else { return }
    phase = .running
    tell([.ready, .status(await snapshot().sentence)])
    if reloadWanted { await reload() }
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

  private func reload() async {
    switch phase {
    case .starting:
      phase = .starting(reload: true)
      return
    case .reloading:
      phase = .reloading(again: true)
      return
    case .stopping: return
    case .running: break
    }
    phase = .reloading(again: false)
    tell([.reloading(), .status("reading the configuration")])
    let waiters = reloadWaiters
    reloadWaiters = []
    let loaded = load()
    if let configuration = loaded.configuration {
      settings = configuration.daemon
      await supervisor.reconcile(configuration.attachments)
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
    guard case .reloading(let again) = phase else { return }
    phase = .running
    tell([.ready, .status(await snapshot().sentence)])
    if again { await reload() }
  }

  /// Reads the configuration again, and returns when it is in force.
  private func reloadForClient() async throws(ActionError) {
    if case .stopping = phase { throw .stopping }
    let result = await withCheckedContinuation { continuation in
      reloadWaiters.append(continuation)
      Task { await reload() }
    }
    try result.get()
  }

  // MARK: What is seen from outside

  private func snapshot() async -> StatusSnapshot {
    let attachments = await supervisor.reports()
    return StatusSnapshot(daemon: report, attachments: attachments)
  }

  private func startControl() async -> Bool {
    var actions = ControlActions()
    actions.reload = { [weak self] () async throws(ActionError) in try await self?.reloadForClient() }
    let server = ControlServer(path: options.controlPath, actions: actions) { [weak self] in
      guard let self else { return StatusSnapshot(daemon: DaemonReport(pid: getpid(), started: 0)) }
      return await snapshot()
    }
    do throws(ControlError) {
      try await server.start()
      control = server
      return true
    } catch {
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
    guard !isStatusDue, case .running = phase else { return }
    isStatusDue = true
    supervisor.executor.queue.asyncAfter(deadline: .now() + 0.05) {
      Task { await self.sendStatus() }
    }
  }

  private func sendStatus() async {
    isStatusDue = false
    guard case .running = phase else { return }
    tell([.status(await snapshot().sentence)])
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

  private func watchSignals() {
    signal(SIGPIPE, SIG_IGN)
    for (number, body) in [
      (SIGHUP, { @Sendable (daemon: Daemon) in await daemon.reload() }),
      (SIGTERM, { @Sendable (daemon: Daemon) in await daemon.stop() }),
      (SIGINT, { @Sendable (daemon: Daemon) in await daemon.stop() }),
      // From systemd, where it restarts the service (RestartKillSignal=). A device of the classic interface can't outlive
      // this process, so that a restart is a stop.
      (SIGUSR1, { @Sendable (daemon: Daemon) in await daemon.stop() }),
    ] {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: supervisor.executor.queue)
      source.setEventHandler { [weak self] in
        guard let self else { return }
        Task { await body(self) }
      }
      source.activate()
      signals.append(source)
    }
  }

  private func stop() async {
    if case .stopping = phase { return }
    phase = .stopping
    for waiter in reloadWaiters { waiter.resume(returning: .failure(.stopping)) }
    reloadWaiters = []
    let timeout = settings.stopTimeout
    tell([.stopping, .status("detaching"), .extendTimeout(timeout + .seconds(15))])
    await supervisor.stopAll(timeout: timeout)
    await control?.stop()
    log(.info, "stopped")
    exit(EXIT_SUCCESS)
  }
}
