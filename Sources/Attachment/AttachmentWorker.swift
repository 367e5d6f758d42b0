package import AttachmentModel
import Dispatch
package import LinuxKernel
import NBDProtocol
import Relay

/// Runs one attachment: carries out what its `Lifecycle` decides and reports what comes of it.
///
/// Concurrency model: an actor on a serial queue of its own. It never awaits between reading its state and writing it:
/// what waits runs in a task that ends in one event. It knows neither configuration files nor systemd.
package actor AttachmentWorker {
  /// What happened: the new report, the state before when that changed, the device's links when those changed, and what
  /// the device has told.
  package struct Observation: Sendable {
    package let report: AttachmentReport
    package let previous: AttachmentReport.State?
    package let bound: BoundDevice?
    package let notice: DeviceNotice?

    package init(
      report: AttachmentReport, previous: AttachmentReport.State?, bound: BoundDevice? = nil,
      notice: DeviceNotice? = nil
    ) {
      self.report = report
      self.previous = previous
      self.bound = bound
      self.notice = notice
    }
  }

  /// Makes an unbound device of the kernel interface that the spec wants.
  package typealias MakeDevice = @Sendable (AttachmentSpec) async throws(Failure) -> any KernelDevice

  package nonisolated let executor: QueueExecutor
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  package private(set) var spec: AttachmentSpec
  package internal(set) var report: AttachmentReport
  private(set) var lifecycle: Lifecycle
  /// Of the one that is under way, as the reconnect-timeout counts it.
  private var outageBegan: ContinuousClock.Instant?
  var device: (any KernelDevice)? {
    didSet { meter.watch(device) }
  }
  private nonisolated let meter = Meter()
  /// What the device was made from; any later link must offer the same.
  var identity: DeviceIdentity?
  /// Where the operator has moved it: see `servers(for:)`.
  var movedTo: ServerURI?
  /// What the links that are up were made for, all of them; `nil` where there is no device.
  var carried: Intent?
  /// Why links that are up are renewed, where they are.
  var renewal = Renewal.again
  var failBackTimer: (any DispatchSourceTimer)?
  var carryTimer: (any DispatchSourceTimer)?
  var isSupersedingDue = false
  /// Of the attempt under way, or of the last one.
  var scope: AttemptScope
  private var timers: [Lifecycle.Timer: any DispatchSourceTimer] = [:]
  /// Links that were lost before the success of the attempt that made them was told.
  private var earlyLoss: (generation: Lifecycle.Generation, loss: LinkLoss)?
  private var releaseTimeout = AttachmentWorker.defaultReleaseTimeout
  private var drainLimit = AttachmentWorker.defaultDrainLimit
  private var stopWaiters: [CheckedContinuation<Void, Never>] = []
  private var renewalWaiters: [CheckedContinuation<Failure?, Never>] = []
  private let slowRetry: Duration
  let makeDevice: MakeDevice
  private let observe: @Sendable (Observation) -> Void

  /// How long writing out and disconnecting may take before it is forced.
  package static let defaultReleaseTimeout: Duration = .seconds(10)
  /// How long what is under way may take before the device is handed over without it.
  package static let defaultDrainLimit: Duration = .seconds(5)

  /// - Parameters:
  ///   - movedTo: the server that the operator has chosen in place of those declared.
  ///   - seed: of the back-off's jitter.
  ///   - slowRetry: how often, or at `retry.maximum` if that is longer, new links are tried for in the place of those that
  ///     are not as declared.
  ///   - observe: called on the worker's queue for each change, in order.
  package init(
    _ spec: AttachmentSpec, movedTo: ServerURI? = nil, seed: UInt64 = .random(in: .min ... .max),
    slowRetry: Duration = Lifecycle.slowRetry, makeDevice: @escaping MakeDevice,
    observe: @escaping @Sendable (Observation) -> Void
  ) {
    self.spec = spec
    self.movedTo = movedTo
    executor = QueueExecutor(label: "attachment \(spec.name)")
    scope = AttemptScope(queue: executor.queue)
    lifecycle = Lifecycle(retry: spec.retry, reconnectTimeout: spec.reconnectTimeout, seed: seed)
    report = AttachmentReport(name: spec.name, state: .stopped, since: wallClockNow())
    self.slowRetry = slowRetry
    self.makeDevice = makeDevice
    self.observe = observe
  }

  package func start() { handle(.start) }

  /// Takes over a device of a former process instead of starting.
  package func adopt(_ device: any KernelDevice, of record: DeviceRecord) {
    guard case .stopped = lifecycle.state else { return }
    let identity = record.identity
    self.device = device
    self.identity = identity
    carried = intent
    report.dataLosses = record.dataLosses ?? []
    report.dataLossCount = record.dataLossCount ?? 0
    fill(from: device, identity)
    let isAlive = device.linkCount > 0
    handle(.adopted(isAlive: isAlive))
    let generation = lifecycle.currentGeneration
    device.tellLosses(to: lossCallback(generation))
    listen(to: device)
    publishBinding()
    // Also those that were lost before there was anybody to tell.
    let linkCount = device.linkCount
    if isAlive, linkCount < identity.linkCount {
      linksLost(LinkLoss(remaining: linkCount, holdsIO: true), generation)
    }
  }

  /// Tries now instead of at the end of the pause.
  package func retry() {
    handle(.retry)
    carryIntent()
  }

  /// What the device has counted. From any thread.
  package nonisolated var statistics: IOStatistics? { meter.statistics }

  /// Takes over what needs no new device. Where it is what links are made with, none is made with the former any more, and
  /// those that are up are renewed, as soon as new ones can be had.
  package func update(_ spec: AttachmentSpec) {
    let before = intent
    if spec.servers != self.spec.servers { forgetMove(for: spec.servers) }
    self.spec = spec
    device?.update(spec)
    scheduleFailBack()
    lifecycle.backoff.policy = spec.retry
    changeReconnectTimeout(to: spec.reconnectTimeout)
    if let device, let parameters = identity?.parameters, parameters.reconnectTimeout != spec.reconnectTimeout {
      identity?.parameters.reconnectTimeout = spec.reconnectTimeout
      // Where it fails, the next links bring it.
      Task { try? await device.holdIO(for: spec.reconnectTimeout) }
    }
    publishBinding()
    if intent != before { intentChanged() }
  }

  /// Makes new links in the place of all that there are, with the credentials that are there now, and returns when they
  /// are up, which also finds an export that has grown; where none is up, tries now. Throws why it could not; links that
  /// are up are then as they were.
  package func reconnect() async throws(Failure) {
    // What is under way may have begun before what the caller knows of: it does not count.
    while lifecycle.state.isAttempting { await outcome() }
    switch lifecycle.state {
    case .attached:
      begin(.again)
      try await untilRenewed()
    case .degraded:
      // The lost ones first: as a whole they are renewed from there.
      handle(.retry)
      try await untilRenewed()
      try await reconnect()
    case .reconnecting, .waiting, .failed:
      handle(.retry)
      try await untilRenewed()
    case .stopped, .connecting, .detaching:
      throw Failure(.connecting, "it is being stopped", advice: .retry)
    }
  }

  /// Puts links to that server in the place of those that are up, and keeps to it. Throws why it could not; all is then
  /// as it was. Where no link is up it only remembers, and tries that server next.
  package func move(to server: ServerURI) async throws(Failure) {
    try requireProtected(server)
    switch lifecycle.state {
    case .attached:
      begin(.moving(to: server))
      try await untilRenewed()
    case .degraded:
      throw Failure(.connecting, "some of its links are lost, and others are being made", advice: .retry)
    case .detaching, .stopped:
      throw Failure(.connecting, "it is being stopped", advice: .retry)
    case .connecting, .reconnecting, .waiting, .failed:
      guard movedTo != server else { return handle(.retry) }
      movedTo = server
      intentChanged()
    }
  }

  /// The operator knows of the writes that were lost.
  package func acknowledge() {
    report.dataLosses = []
    report.dataLossCount = 0
    publish()
    publishBinding()
  }

  private func untilRenewed() async throws(Failure) {
    if let failure = await outcome() { throw failure }
  }

  /// Why the attempt under way has failed, once it has ended.
  @discardableResult
  private func outcome() async -> Failure? {
    await withCheckedContinuation { renewalWaiters.append($0) }
  }

  /// Makes new links in the place of those that are up, unless something else is under way.
  func begin(_ renewal: Renewal) {
    guard case .attached = lifecycle.state else { return }
    self.renewal = renewal
    handle(.renew)
  }

  /// Detaches in order and returns when nothing runs any more. What can't be written out and disconnected within
  /// `timeout` is forced.
  package func stop(timeout: Duration = AttachmentWorker.defaultReleaseTimeout) async {
    releaseTimeout = timeout
    handle(.stop)
    await untilStopped()
  }

  /// Leaves the device to the kernel, for the next process, and returns when nothing runs here any more. What is under
  /// way may take as long as `limit` before.
  package func handOver(within limit: Duration = AttachmentWorker.defaultDrainLimit) async {
    drainLimit = limit
    handle(.handOver)
    await untilStopped()
  }

  private func untilStopped() async {
    if case .stopped = lifecycle.state { return }
    await withCheckedContinuation { stopWaiters.append($0) }
  }

  private func changeReconnectTimeout(to timeout: Duration?) {
    let elapsed = outageBegan.map { .now - $0 } ?? .zero
    let effects = lifecycle.changeReconnectTimeout(to: timeout, elapsed: elapsed)
    noteOutage()
    for effect in effects { perform(effect) }
  }

  private func noteOutage() { outageBegan = lifecycle.isInOutage ? outageBegan ?? .now : nil }

  // MARK: Events and effects

  private func handle(_ event: Lifecycle.Event) {
    let effects = lifecycle.handle(event)
    note(event)
    noteOutage()
    for effect in effects { perform(effect) }
    publish()
    guard case .stopped = lifecycle.state else { return }
    device = nil
    identity = nil
    carried = nil
    scheduleFailBack()
    scheduleCarrying()
    for waiter in stopWaiters { waiter.resume() }
    stopWaiters = []
    endRenewal(Failure(.connecting, "the attachment was stopped", advice: .retry))
  }

  private func perform(_ effect: Lifecycle.Effect) {
    switch effect {
    case .attempt(let generation): begin(generation, repairPlacement)
    case .renew(let generation): begin(generation, renewal == .superseding ? .superseding : .replacingAll)
    case .cancelAttempt:
      scope.cancel()
    case .detach(let generation):
      Task { await release(generation) }
    case .letGo(let generation):
      Task {
        await device?.letGo(within: drainLimit)
        // What the relay has left. Links have been told of, and are no longer the device's.
        if device?.datapath == .relay { publishBinding() }
        handle(.released(generation))
      }
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

  /// Before the next try for links as they are declared.
  func newSlowPause() -> Duration { lifecycle.backoff.jittered(max(slowRetry, spec.retry.maximum)) }

  private func begin(_ generation: Lifecycle.Generation, _ placement: LinkPlacement) {
    scope = AttemptScope(queue: executor.queue)
    Task { await attempt(generation, placement) }
  }

  private func attempt(_ generation: Lifecycle.Generation, _ placement: LinkPlacement) async {
    let (earlier, earlierSettings) = (identity?.server, carried?.settings)
    do throws(Failure) {
      try await makeLinks(generation, placement)
      if case .moving(let server) = renewal, placement == .replacingAll {
        movedTo = server
        carried?.movedTo = server
      }
      handle(.attemptSucceeded(generation))
      if let earlier, let now = identity?.server, now != earlier { noticed(.serverChanged(from: earlier, to: now)) }
      if let earlierSettings, carried?.settings != earlierSettings { noticed(.renewedAsDeclared) }
      publishBinding()
      if let (lost, loss) = earlyLoss, lost == generation {
        earlyLoss = nil
        linksLost(loss, generation)
      }
      endRenewal(nil)
    } catch {
      if isOutdated { report.renewalFailure = error }
      handle(.attemptFailed(generation, error))
      if placement != .replacingLost { keepAsBefore() }
      endRenewal(error)
    }
    noticeLossDuringAttempt()
    scheduleFailBack()
    scheduleSuperseding()
    scheduleCarrying()
  }

  /// What is up is what was up before a renewal that did not come about.
  private func keepAsBefore() {
    guard case .attached = lifecycle.state, let device, let identity else { return }
    fill(from: device, identity)
    // Who asked for it is told; nobody asked for the others.
    if [.failingBack, .superseding, .carrying].contains(renewal) { report.failure = nil }
    publish()
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
    do throws(Failure) { try await device?.release(timeout: releaseTimeout) } catch {
      report.failure = error
      // Whichever call failed: what is said of it is that the device was not let go of.
      report.failure?.phase = .detaching
    }
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
    // Nothing that is reported changes by it.
    if let device, device.hasAnswered {
      for effect in lifecycle.handle(.answered(generation)) { perform(effect) }
    }
    handle(
      .linksLost(
        generation, remaining: loss.remaining, holdsIO: loss.holdsIO,
        .linkLost(report.server, remaining: loss.remaining, errnoCode: loss.errnoCode, loss.reason)))
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
    case .start, .adopted, .stop, .handOver, .renew, .retry, .answered, .released, .timerFired: break
    }
  }

  /// Tells of something that is no change of state.
  func publish(_ notice: DeviceNotice) { observe(Observation(report: report, previous: nil, notice: notice)) }

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
    if !isOutdated { report.renewalFailure = nil }
    observe(Observation(report: report, previous: previous == report.state ? nil : previous))
  }

  /// Tells what the next process needs to take the device over.
  func publishBinding() {
    guard let device, let identity, let index = device.index else { return }
    var spec = spec
    if let carried { spec.linkSettings = carried.settings }
    let legacy = device.legacy
    var record = DeviceRecord(
      spec: spec, index: index, interface: device.interface, identity: identity, datapath: device.datapath)
    record.legacy = legacy?.identifier
    if report.dataLossCount > 0 {
      record.dataLosses = report.dataLosses
      record.dataLossCount = report.dataLossCount
    }
    observe(
      Observation(
        report: report, previous: nil,
        bound: BoundDevice(record: record, sockets: device.sockets, legacy: legacy)))
  }

  func fill(from device: any KernelDevice, _ identity: DeviceIdentity) {
    report.device = device.index.map { "/dev/nbd\($0)" }
    report.server = "\(identity.server)"
    report.export = identity.server.exportName
    report.size = identity.parameters.size
    report.blockSize = identity.parameters.blockSize
    report.isReadOnly = identity.parameters.flags.contains(.readOnly)
    report.kernelInterface = device.interface
    report.datapath = device.datapath
    report.security = identity.security
  }
}
