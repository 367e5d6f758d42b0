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
/// Concurrency model: an actor on the supervisor's queue, so that both see one order of events and it can ask the
/// supervisor without waiting. Only a start and a stop wait; whatever follows a wait looks at the phase again.
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
    /// `reloadWanted`: a reload was asked for meanwhile.
    case starting(reloadWanted: Bool)
    case running
    case stopping
  }

  package nonisolated var unownedExecutor: UnownedSerialExecutor { supervisor.unownedExecutor }

  private let options: Options
  private let log: Log
  private let manager: ServiceManager
  private let supervisor: Supervisor
  private var phase = Phase.starting(reloadWanted: false)
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
    await watchSignals()
    guard case .starting = phase else { return }
    startWatchdog()
    guard await startControl() else { exit(EXIT_FAILURE) }
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
    settings = loaded.sound.daemon
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
      settings = configuration.daemon
      reconcile(configuration.attachments)
    } else {
      log(
        .error, "the configuration has errors: the one in force stays as it is (\(loaded.summary))",
        id: .configurationRejected)
    }
    tell([.ready, .status(snapshot().sentence)])
    let errors = loaded.diagnostics.filter { $0.severity == .error }.map(\.description)
    for waiter in waiters {
      waiter.resume(returning: errors.isEmpty ? .success(()) : .failure(.configurationRefused(errors: errors)))
    }
  }

  private func reconcile(_ attachments: [AttachmentSpec]) {
    supervisor.assumeIsolated { $0.reconcile(attachments) }
  }

  /// Reads the configuration again, and returns when it is in force.
  private func reloadForClient() async throws(ActionError) {
    if case .stopping = phase { throw .stopping }
    let result = await withCheckedContinuation { continuation in
      reloadWaiters.append(continuation)
      reload()
    }
    try result.get()
  }

  // MARK: What is seen from outside

  private func snapshot() -> StatusSnapshot {
    StatusSnapshot(daemon: report, attachments: supervisor.assumeIsolated { $0.reports() })
  }

  private func startControl() async -> Bool {
    var actions = ControlActions()
    actions.reload = { [weak self] () async throws(ActionError) in try await self?.reloadForClient() }
    let server = ControlServer(path: options.controlPath, actions: actions) { [weak self] in
      guard let self else { return StatusSnapshot(daemon: DaemonReport(pid: getpid(), started: 0)) }
      return await snapshot()
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
      // From systemd, where it restarts the service (RestartKillSignal=). A device of the classic interface can't outlive
      // this process, so that a restart is a stop.
      (SIGUSR1, { @Sendable (daemon: Daemon) in await daemon.stop() }),
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

  private func stop() async {
    if case .stopping = phase { return }
    phase = .stopping
    for waiter in reloadWaiters { waiter.resume(returning: .failure(.stopping)) }
    reloadWaiters = []
    let timeout = settings.stopTimeout
    tell([.stopping, .status("detaching"), .extendTimeout(timeout + Supervisor.stopMargin + .seconds(5))])
    if await !supervisor.stopAll(timeout: timeout) {
      log(.warning, "not everything was detached within the stop-timeout, proceeding anyway")
    }
    await control?.stop()
    log(.info, "the daemon ends")
    exit(EXIT_SUCCESS)
  }
}
