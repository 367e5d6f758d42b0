package import AttachmentModel
import Dispatch
package import LinuxKernel
import NBDProtocol

/// Runs one attachment: carries out what its `Lifecycle` decides and reports what comes of it.
///
/// Concurrency model: an actor on a serial queue of its own. It never awaits between reading its state and writing it:
/// what waits runs in a task that ends in one event. It knows neither configuration files nor systemd.
package actor AttachmentWorker {
  /// What happened: the new report, the state before when that changed, and the device's links when those changed.
  package struct Observation: Sendable {
    package let report: AttachmentReport
    package let previous: AttachmentReport.State?
    package let bound: BoundDevice?

    package init(report: AttachmentReport, previous: AttachmentReport.State?, bound: BoundDevice? = nil) {
      self.report = report
      self.previous = previous
      self.bound = bound
    }
  }

  /// Makes an unbound device of the kernel interface that the spec wants.
  package typealias MakeDevice = @Sendable (AttachmentSpec) async throws(Failure) -> any KernelDevice

  package nonisolated let executor: QueueExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  package private(set) var spec: AttachmentSpec
  package internal(set) var report: AttachmentReport
  private(set) var lifecycle: Lifecycle
  var device: (any KernelDevice)?
  /// What the device was made from; any later link must offer the same.
  var identity: DeviceIdentity?
  private var scope: AttemptScope?
  private var timers: [Lifecycle.Timer: any DispatchSourceTimer] = [:]
  /// Links that were lost before the success of the attempt that made them was told.
  private var earlyLoss: (generation: Lifecycle.Generation, loss: LinkLoss)?
  private var releaseTimeout = AttachmentWorker.defaultReleaseTimeout
  private var stopWaiters: [CheckedContinuation<Void, Never>] = []
  private var renewalWaiters: [CheckedContinuation<Failure?, Never>] = []
  let makeDevice: MakeDevice
  private let observe: @Sendable (Observation) -> Void

  /// How long writing out and disconnecting may take before it is forced.
  package static let defaultReleaseTimeout: Duration = .seconds(10)

  /// - Parameters:
  ///   - seed: of the back-off's jitter.
  ///   - observe: called on the worker's queue for each change, in order.
  package init(
    _ spec: AttachmentSpec, seed: UInt64 = .random(in: .min ... .max), makeDevice: @escaping MakeDevice,
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

  /// Takes over a device of a former process instead of starting.
  package func adopt(_ device: any KernelDevice, as identity: DeviceIdentity) {
    guard case .stopped = lifecycle.state else { return }
    self.device = device
    self.identity = identity
    fill(from: device, identity)
    handle(.adopted(isAlive: device.linkCount > 0))
    let generation = lifecycle.currentGeneration
    device.tellLosses(to: lossCallback(generation))
    publishBinding()
    if device.linkCount > 0, device.linkCount < identity.linkCount {
      linksLost(LinkLoss(remaining: device.linkCount, holdsIO: true), generation)
    }
  }

  /// Tries now instead of at the end of the pause.
  package func retry() { handle(.retry) }

  /// Takes over what needs no new device: time limits and retry policy.
  package func update(_ spec: AttachmentSpec) {
    self.spec = spec
    lifecycle.backoff.policy = spec.retry
    lifecycle.reconnectTimeout = spec.reconnectTimeout
    if let device, let parameters = identity?.parameters, parameters.reconnectTimeout != spec.reconnectTimeout {
      identity?.parameters.reconnectTimeout = spec.reconnectTimeout
      // Where it fails, the next links bring it.
      Task { try? await device.holdIO(for: spec.reconnectTimeout) }
    }
    publishBinding()
  }

  /// Makes new links in place of those that are up, which also finds an export that has grown. Throws why it could not;
  /// the old links are then as they were.
  package func renew() async throws(Failure) {
    handle(.renew)
    guard case .degraded(_, .trying) = lifecycle.state else {
      // It is on its way to new links already, or waits to be: now is as good a time as any.
      handle(.retry)
      return
    }
    let failure = await withCheckedContinuation { renewalWaiters.append($0) }
    if let failure { throw failure }
  }

  /// Detaches in order and returns when nothing runs any more. What can't be written out and disconnected within
  /// `timeout` is forced.
  package func stop(timeout: Duration = AttachmentWorker.defaultReleaseTimeout) async {
    releaseTimeout = timeout
    handle(.stop)
    await untilStopped()
  }

  /// Leaves the device to the kernel, for the next process, and returns when nothing runs here any more.
  package func handOver() async {
    handle(.handOver)
    await untilStopped()
  }

  private func untilStopped() async {
    if case .stopped = lifecycle.state { return }
    await withCheckedContinuation { stopWaiters.append($0) }
  }

  // MARK: Events and effects

  private func handle(_ event: Lifecycle.Event) {
    let effects = lifecycle.handle(event)
    note(event)
    for effect in effects { perform(effect) }
    publish()
    guard case .stopped = lifecycle.state else { return }
    device = nil
    identity = nil
    for waiter in stopWaiters { waiter.resume() }
    stopWaiters = []
    endRenewal(Failure(.connecting, "the attachment was stopped", advice: .retry))
  }

  private func perform(_ effect: Lifecycle.Effect) {
    switch effect {
    case .attempt(let generation): begin(generation, .replacingLost)
    case .renew(let generation): begin(generation, .replacingAll)
    case .cancelAttempt:
      scope?.cancel()
    case .detach(let generation):
      Task { await release(generation) }
    case .letGo:
      device?.letGo()
    case .startTimer(let timer, let duration):
      start(timer, duration)
    case .cancelTimer(let timer):
      timers.removeValue(forKey: timer)?.cancel()
    case .stopHoldingIO:
      if let device { Task { await device.stopHoldingIO() } }
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

  private func begin(_ generation: Lifecycle.Generation, _ placement: LinkPlacement) {
    let scope = AttemptScope(queue: executor.queue)
    self.scope = scope
    Task { await attempt(generation, placement, in: scope) }
  }

  private func attempt(
    _ generation: Lifecycle.Generation, _ placement: LinkPlacement, in scope: AttemptScope
  ) async {
    do throws(Failure) {
      try await connectAndBind(generation, placement, in: scope)
      handle(.attemptSucceeded(generation))
      publishBinding()
      if let (lost, loss) = earlyLoss, lost == generation {
        earlyLoss = nil
        linksLost(loss, generation)
      }
      endRenewal(nil)
    } catch {
      handle(.attemptFailed(generation, error))
      endRenewal(error)
    }
    noticeLossDuringAttempt()
  }

  private func endRenewal(_ failure: Failure?) {
    let waiters = renewalWaiters
    renewalWaiters = []
    for waiter in waiters { waiter.resume(returning: failure) }
  }

  /// A link that was lost while others were being made was left to that attempt, which did not know of it or failed.
  private func noticeLossDuringAttempt() {
    guard case .attached(let binding) = lifecycle.state, let device, let identity,
      device.linkCount < identity.linkCount
    else { return }
    let holdsIO = device.isAlive && identity.parameters.reconnectTimeout != .zero
    linksLost(LinkLoss(remaining: device.linkCount, holdsIO: holdsIO), binding.generation)
  }

  private func release(_ generation: Lifecycle.Generation) async {
    do throws(Failure) { try await device?.release(timeout: releaseTimeout) } catch { report.failure = error }
    handle(.released(generation))
  }

  func lossCallback(_ generation: Lifecycle.Generation) -> @Sendable (LinkLoss) -> Void {
    let queue = executor.queue
    return { [weak self] loss in
      queue.async { [weak self] in self?.assumeIsolated { $0.linksLost(loss, generation) } }
    }
  }

  private func linksLost(_ loss: LinkLoss, _ generation: Lifecycle.Generation) {
    guard lifecycle.isBound(generation) else {
      earlyLoss = (generation, loss)
      return
    }
    handle(
      .linksLost(
        generation, remaining: loss.remaining, holdsIO: loss.holdsIO,
        .linkLost(report.server, remaining: loss.remaining, errnoCode: loss.errnoCode)))
  }

  // MARK: Reports

  /// What an event says beyond the state that it leads to.
  private func note(_ event: Lifecycle.Event) {
    switch event {
    case .attemptSucceeded:
      report.failure = nil
      report.attempts = 0
    case .attemptFailed(_, let failure): report.failure = failure
    case .linksLost(_, _, _, let failure):
      report.failure = failure
      report.losses += 1
    case .start, .adopted, .stop, .handOver, .renew, .retry, .released, .timerFired: break
    }
  }

  func publish() {
    let state = lifecycle.state
    let previous = report.state
    report.state = state.reported
    report.attempts = state.attempts ?? report.attempts
    report.links = state.hasLinks ? device?.linkCount ?? 0 : 0
    if !state.isAttempting { report.activity = nil }
    if !state.isPausing { report.nextTry = nil }
    if previous != report.state { report.since = wallClockNow() }
    if case .stopped = state { report.device = nil }
    observe(Observation(report: report, previous: previous == report.state ? nil : previous))
  }

  /// Tells what the next process needs to take the device over.
  private func publishBinding() {
    guard let device, let identity, let index = device.index else { return }
    observe(
      Observation(
        report: report, previous: nil,
        bound: BoundDevice(
          record: DeviceRecord(spec: spec, index: index, interface: device.interface, identity: identity),
          sockets: device.sockets)))
  }

  func fill(from device: any KernelDevice, _ identity: DeviceIdentity) {
    report.device = device.index.map { "/dev/nbd\($0)" }
    report.server = "\(identity.server)"
    report.export = identity.server.exportName
    report.size = identity.parameters.size
    report.blockSize = identity.parameters.blockSize
    report.isReadOnly = identity.parameters.flags.contains(.readOnly)
    report.kernelInterface = device.interface
    report.datapath = .direct
  }
}
