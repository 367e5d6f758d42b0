package import AttachmentModel
import Dispatch
package import LinuxKernel
import NBDProtocol

/// Runs one attachment: carries out what its `Lifecycle` decides and reports what comes of it.
///
/// Concurrency model: an actor on a serial queue of its own. It never awaits between reading its state and writing it:
/// what waits runs in a task that ends in one event. It knows neither configuration files nor systemd.
package actor AttachmentWorker {
  /// What happened: the new report, and the state before when that changed.
  package struct Observation: Sendable {
    package let report: AttachmentReport
    package let previous: AttachmentReport.State?
  }

  package nonisolated let executor: QueueExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  package private(set) var spec: AttachmentSpec
  package private(set) var report: AttachmentReport
  private var lifecycle: Lifecycle
  private var device: (any KernelDevice)?
  private var scope: AttemptScope?
  private var timers: [Lifecycle.Timer: any DispatchSourceTimer] = [:]
  /// A device that ended before its attempt's success was told.
  private var earlyEnd: (generation: Lifecycle.Generation, end: DeviceEnd)?
  private var releaseTimeout = AttachmentWorker.defaultReleaseTimeout
  private var stopWaiters: [CheckedContinuation<Void, Never>] = []
  private let makeDevice: @Sendable (AttachmentSpec) -> any KernelDevice
  private let observe: @Sendable (Observation) -> Void

  /// How long writing out and disconnecting may take before it is forced.
  package static let defaultReleaseTimeout: Duration = .seconds(10)

  /// - Parameters:
  ///   - seed: of the back-off's jitter.
  ///   - makeDevice: makes an unbound device of the kernel interface that the spec wants.
  ///   - observe: called on the worker's queue for each change, in order.
  package init(
    _ spec: AttachmentSpec, seed: UInt64 = .random(in: .min ... .max),
    makeDevice: @escaping @Sendable (AttachmentSpec) -> any KernelDevice,
    observe: @escaping @Sendable (Observation) -> Void
  ) {
    self.spec = spec
    executor = QueueExecutor(label: "attachment \(spec.name)")
    lifecycle = Lifecycle(retry: spec.retry, reconnectTimeout: spec.reconnectTimeout, seed: seed)
    report = AttachmentReport(name: spec.name, state: .stopped, since: wallClockNow())
    self.makeDevice = makeDevice
    self.observe = observe
  }

  package func start() { handle(.start) }

  /// Tries now instead of at the end of the pause.
  package func retry() { handle(.retry) }

  /// Takes over what needs no new device: time limits and retry policy.
  package func update(_ spec: AttachmentSpec) {
    self.spec = spec
    lifecycle.backoff.policy = spec.retry
    lifecycle.reconnectTimeout = spec.reconnectTimeout
  }

  /// Detaches in order and returns when nothing runs any more. What can't be written out and disconnected within
  /// `timeout` is forced.
  package func stop(timeout: Duration = AttachmentWorker.defaultReleaseTimeout) async {
    releaseTimeout = timeout
    handle(.stop)
    if case .stopped = lifecycle.state { return }
    await withCheckedContinuation { stopWaiters.append($0) }
  }

  // MARK: Events and effects

  private func handle(_ event: Lifecycle.Event) {
    let effects = lifecycle.handle(event)
    apply(event)
    for effect in effects { perform(effect) }
    publish()
    if case .stopped = lifecycle.state {
      device = nil
      let waiters = stopWaiters
      stopWaiters = []
      for waiter in waiters { waiter.resume() }
    }
  }

  private func perform(_ effect: Lifecycle.Effect) {
    switch effect {
    case .attempt(let generation):
      let scope = AttemptScope(queue: executor.queue)
      self.scope = scope
      Task { await attempt(generation, in: scope) }
    case .cancelAttempt:
      scope?.cancel()
    case .detach(let generation):
      Task { await release(generation) }
    case .startTimer(let timer, let duration):
      start(timer, duration)
    case .cancelTimer(let timer):
      timers.removeValue(forKey: timer)?.cancel()
    case .stopHoldingIO:
      // No device of today holds I/O without its own limit.
      break
    }
  }

  private func start(_ timer: Lifecycle.Timer, _ duration: Duration) {
    timers.removeValue(forKey: timer)?.cancel()
    let source = DispatchSource.makeTimerSource(queue: executor.queue)
    source.setEventHandler { [weak self] in
      self?.assumeIsolated { worker in
        worker.timers.removeValue(forKey: timer)?.cancel()
        worker.handle(.timerFired(timer))
      }
    }
    source.schedule(deadline: .now() + duration.inSeconds, leeway: .milliseconds(5))
    source.activate()
    timers[timer] = source
    if timer.purpose == .retry { report.nextTry = wallClockNow() + duration.inSeconds }
  }

  // MARK: Attempts

  private func attempt(_ generation: Lifecycle.Generation, in scope: AttemptScope) async {
    do throws(Failure) {
      try await connectAndBind(generation, in: scope)
      handle(.attemptSucceeded(generation))
      if let (ended, end) = earlyEnd, ended == generation {
        earlyEnd = nil
        deviceEnded(end, generation)
      }
    } catch {
      handle(.attemptFailed(generation, error))
    }
  }

  /// Tries the servers in their order; when all fail, says of each why.
  private func connectAndBind(_ generation: Lifecycle.Generation, in scope: AttemptScope) async throws(Failure) {
    var failures: [(server: ServerURI, failure: Failure)] = []
    for server in spec.servers {
      do throws(Failure) {
        return try await connectAndBind(server, generation, in: scope)
      } catch {
        failures.append((server, error))
        // A device that can't be had is not the server's fault; the next one would meet the same.
        if error.phase == .binding || error.isCancellation { break }
      }
    }
    throw Failure.combined(failures)
  }

  private func connectAndBind(
    _ server: ServerURI, _ generation: Lifecycle.Generation, in scope: AttemptScope
  ) async throws(Failure) {
    report.server = "\(server)"
    report.export = server.exportName
    let connector = Connector(server: server, scope: scope) { [self] step in
      report.activity = step
      publish()
    }
    let link = try await connector.link(timeout: spec.connectTimeout)
    do throws(Failure) { try await bind(link, generation) } catch {
      // The kernel has not got it, and a server may keep a client that does not take its leave.
      ByteStream(link.socket, scope: scope).writeIfPossible(Request(.disconnect, cookie: 0).bytes)
      throw error
    }
  }

  private func bind(_ link: Link, _ generation: Lifecycle.Generation) async throws(Failure) {
    let parameters = try parameters(for: link.export)
    let device = device ?? makeDevice(spec)
    self.device = device
    report.activity = "binding"
    publish()
    try await device.bind(link, parameters, onEnd: endCallback(generation))
    report.device = device.index.map { "/dev/nbd\($0)" }
    report.size = parameters.size
    report.blockSize = parameters.blockSize
    report.isReadOnly = parameters.flags.contains(.readOnly)
    report.kernelInterface = .ioctl
    report.datapath = .direct
  }

  private func endCallback(_ generation: Lifecycle.Generation) -> @Sendable (DeviceEnd) -> Void {
    let queue = executor.queue
    return { [weak self] end in
      queue.async { [weak self] in self?.assumeIsolated { $0.deviceEnded(end, generation) } }
    }
  }

  private func parameters(for export: ExportInfo) throws(Failure) -> DeviceParameters {
    if let expected = spec.expectedSize, export.size != expected {
      throw Failure(
        .comparing, "the export has \(export.size) bytes, and \(expected) are expected",
        hint: "correct expect: { size: … }, or the export", advice: .giveUp)
    }
    let geometry: DeviceGeometry
    do {
      geometry = try DeviceGeometry(of: export, wantedBlockSize: spec.blockSize, largestBlockSize: systemPageSize())
    } catch {
      throw Failure(.comparing, error.message, advice: .giveUp)
    }
    // What the driver acts on; several connections are another matter than several that are allowed.
    var flags = export.flags.intersection([
      .hasFlags, .readOnly, .sendFlush, .sendFUA, .rotational, .sendTrim, .sendWriteZeroes,
    ])
    if spec.isReadOnly { flags.insert(.readOnly) }
    return DeviceParameters(
      blockSize: geometry.blockSize, size: geometry.size, maximumRequest: geometry.maximumRequest, flags: flags,
      requestTimeout: spec.requestTimeout)
  }

  private func release(_ generation: Lifecycle.Generation) async {
    do throws(Failure) { try await device?.release(timeout: releaseTimeout) } catch { report.failure = error }
    handle(.released(generation))
  }

  private func deviceEnded(_ end: DeviceEnd, _ generation: Lifecycle.Generation) {
    switch end {
    case .released: break
    case .lost(let code):
      guard lifecycle.isBound(generation) else {
        earlyEnd = (generation, end)
        return
      }
      handle(
        .linksLost(
          generation, remaining: 0, holdsIO: device?.holdsIO ?? false, .linkLost(report.server, errnoCode: code)))
    }
  }

  // MARK: Reports

  /// What an event says beyond the state that it leads to.
  private func apply(_ event: Lifecycle.Event) {
    switch event {
    case .attemptSucceeded:
      report.failure = nil
      report.attempts = 0
    case .attemptFailed(_, let failure): report.failure = failure
    case .linksLost(_, _, _, let failure):
      report.failure = failure
      report.losses += 1
    case .start, .stop, .retry, .released, .timerFired: break
    }
  }

  private func publish() {
    let state = lifecycle.state
    let previous = report.state
    report.state = state.reported
    report.attempts = state.attempts ?? report.attempts
    report.links = state.hasLinks ? 1 : 0
    if !state.isAttempting { report.activity = nil }
    if !state.isPausing { report.nextTry = nil }
    if previous != report.state { report.since = wallClockNow() }
    if case .stopped = state { report.device = nil }
    observe(Observation(report: report, previous: previous == report.state ? nil : previous))
  }
}
