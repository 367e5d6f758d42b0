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
    guard case .starting = phase else { return }
    let loaded = load()
    if loaded.configuration == nil {
      let count = loaded.sound.attachments.count
      log(.warning, "the configuration has errors: what is right of it is in force (\(count) of \(loaded.summary))")
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
  }

  private func reconcile(_ attachments: [AttachmentSpec]) {
    supervisor.assumeIsolated { $0.reconcile(attachments) }
  }

  // MARK: What is seen from outside

  private func snapshot() -> StatusSnapshot {
    StatusSnapshot(daemon: report, attachments: supervisor.assumeIsolated { $0.reports() })
  }

  private func startControl() async -> Bool {
    let server = ControlServer(path: options.controlPath) { [weak self] in
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

  private func watchSignals() {
    signal(SIGPIPE, SIG_IGN)
    for (number, body) in [
      (SIGHUP, { @Sendable (daemon: Daemon) in await daemon.reload() }),
      (SIGTERM, { @Sendable (daemon: Daemon) in await daemon.stop() }),
      (SIGINT, { @Sendable (daemon: Daemon) in await daemon.stop() }),
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
