package import Attachment
package import AttachmentModel
import Dispatch
package import LinuxKernel
import NBDProtocol
package import Relay
package import Systemd

/// Compares what is declared with what runs, and starts, changes and stops workers.
///
/// Concurrency model: an actor on a serial queue of its own. Workers report on their queues, and get their orders there;
/// both go from queue to queue, so that they arrive in the order in which they were given. Reconciling never awaits.
package actor Supervisor {
  package nonisolated let executor = QueueExecutor(label: "supervisor")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  package typealias MakeDevice = AttachmentWorker.MakeDevice
  /// Gives duplicates of a device's links to whoever keeps them for the next process, in the place of what there was.
  /// `areRelayed`: they are no sockets of the kernel's.
  package typealias KeepLinks = @Sendable (_ index: Int, _ sockets: [OpenFile], _ areRelayed: Bool) -> Void
  /// Gives what a device's relay has left to whoever keeps it for the next process, in the place of what there was; `nil`:
  /// nothing. Whether it is kept.
  package typealias KeepLegacy = @Sendable (_ index: Int, _ file: OpenFile?) -> Bool

  struct Entry {
    let worker: AttachmentWorker
    var spec: AttachmentSpec
    var report: AttachmentReport
    /// Of the device whose links are kept for the next process.
    var boundIndex: Int?
    /// What its relay has left, and is kept for the next process.
    var legacy: Legacy?
    /// Something is kept as such, be it spent or of no use.
    var keepsLegacy = false
    var chronicle = Chronicle()
    var phase = Phase.running

    /// Its device takes new links while it is in use: every bound one but a classic one without a relay.
    var isRenewable: Bool { boundIndex != nil || report.datapath == .relay }
    var isDeferred: Bool {
      if case .deferred = phase { true } else { false }
    }
  }

  enum Phase: Equatable {
    case running
    /// Removed or changed in the configuration, but in use: it goes on as it was until that ends.
    case deferred(Plan.Action, uses: [String])
    /// Stops; then becomes this.
    case leaving(next: AttachmentSpec?)
  }

  let log: Log
  let sysfs: NBDSysfs
  let procfs: String
  /// The kernel's netlink interface, `nil` where devices are of another kind.
  let kernel: NetlinkKernel?
  let store: DeviceStore?
  /// For what all relays keep together.
  let budget: RelayBudget
  let keepLinks: KeepLinks
  let keepLegacy: KeepLegacy
  private let makeDevice: MakeDevice
  private let deferredInterval: Duration
  var entries: [String: Entry] = [:]
  /// As the configuration in force has them.
  private(set) var declared: [String: AttachmentSpec] = [:]
  /// Declared, and not to be started until the operator says so.
  var stoppedByOperator: Set<String> = []
  /// Attachments that the operator has moved away from what is declared.
  var moves: [String: Move] = [:]
  /// Since when, as far as this process knows.
  var stoppedSince: [String: Double] = [:]
  /// Devices of ours by number, whose attachment nobody knows, until they can be detached.
  var orphans: [Int: String] = [:]
  /// Those of them that were named in the log.
  var namedOrphans: Set<Int> = []
  /// What uses the devices, as it was just found; see `uses(of:)`.
  var survey: [Int: [DeviceUse]]?
  var attachmentWaiters: [String: [FirstAnswer<Outcome>]] = [:]
  var goneWaiters: [String: [CheckedContinuation<Void, Never>]] = [:]
  /// The system shuts down: since when, and how long I/O is held nevertheless.
  var holdingEnds: (since: Double, limit: Duration)?
  /// Started, and neither attached nor refused yet.
  private var untried: Set<String> = []
  private var readyWaiters: [FirstAnswer<Void>] = []
  private var onChange: (@Sendable () -> Void)?
  private var deferredTimer: (any DispatchSourceTimer)?
  /// Nothing is started any more.
  private(set) var isStopping = false
  /// Of the stop: another process follows at once, and gets what is kept for it.
  var isHandingOver = false

  /// How much longer than its timeout stopping may take, before what does not end is left behind: workers force what
  /// they can't have in order.
  package static let stopMargin: Duration = .seconds(10)

  /// - Parameter deferredInterval: how often a device that is in use is looked at again.
  package init(
    log: Log, sysfs: NBDSysfs = NBDSysfs(), procfs: String = "/proc", deferredInterval: Duration = .seconds(5),
    kernel: NetlinkKernel? = nil, store: DeviceStore? = nil, budget: RelayBudget = RelayBudget(bytes: 1 << 30),
    keepLinks: @escaping KeepLinks = { _, _, _ in },
    keepLegacy: @escaping KeepLegacy = { _, file in file == nil },
    makeDevice: @escaping MakeDevice
  ) {
    self.log = log
    self.sysfs = sysfs
    self.procfs = procfs
    self.deferredInterval = deferredInterval
    self.kernel = kernel
    self.store = store
    self.budget = budget
    self.keepLinks = keepLinks
    self.keepLegacy = keepLegacy
    self.makeDevice = makeDevice
  }

  /// `body` is called after each change of any attachment's state.
  package func onChange(_ body: @escaping @Sendable () -> Void) { onChange = body }

  /// What is known of every attachment, by name; with what their relays have counted where that is wanted.
  package func reports(withStatistics: Bool = false) -> [AttachmentReport] {
    let stopped = stoppedByOperator.filter { entries[$0] == nil }.map { name in
      AttachmentReport(name: name, state: .stopped, since: stoppedSince[name, default: 0])
    }
    let running = entries.values.map { entry in
      var report = entry.report
      if withStatistics { report.statistics = entry.worker.statistics }
      if case .deferred(let action, let uses) = entry.phase {
        report.activity =
          "\(action == .stop ? "removed from" : "changed in") the configuration, and kept while "
          + uses.joined(separator: ", ")
      }
      return report
    }
    return (stopped + running).sorted { $0.name < $1.name }
  }

  // MARK: Reconciling

  /// Makes what runs what is declared. Returns at once; what waits tries again now.
  package func reconcile(_ declared: [AttachmentSpec]) {
    if isStopping { return }
    self.declared = Dictionary(declared.map { ($0.name, $0) }) { first, _ in first }
    stoppedByOperator.formIntersection(self.declared.keys)
    adoptMoves()
    forgetMoves()
    kernel?.registry.keep(named(declared))
    var running: [String: AttachmentSpec] = [:]
    for (name, entry) in entries {
      if case .leaving = entry.phase { continue }
      running[name] = entry.spec
    }
    let plan = Plan(
      declared: declared.filter { !stoppedByOperator.contains($0.name) }, running: running,
      renewable: Set(entries.filter(\.value.isRenewable).keys))
    for (name, action) in plan.actions.sorted(by: { $0.key < $1.key }) { apply(action, to: name) }
    for (name, entry) in entries {
      if case .leaving(.some) = entry.phase, plan.actions[name] == nil { entries[name]?.phase = .leaving(next: nil) }
    }
    scheduleDeferredCheck()
  }

  private func apply(_ action: Plan.Action, to name: String) {
    switch action {
    case .start(let spec):
      if entries[name] != nil { entries[name]?.phase = .leaving(next: spec) } else { start(spec) }
    case .keep:
      entries[name]?.phase = .running
      order(name) { $0.retry() }
      renewIfGrown(name)
    case .update(let spec), .renew(let spec):
      entries[name]?.phase = .running
      entries[name]?.spec = spec
      order(name) { worker in
        worker.update(spec)
        worker.retry()
      }
    case .replace, .stop:
      leaveUnlessInUse(name, action)
    }
  }

  /// Device numbers that attachments ask for.
  private func named(_ declared: [AttachmentSpec]) -> [Int: String] {
    var named: [Int: String] = [:]
    for spec in declared {
      if case .index(let index) = spec.device { named[index] = spec.name }
    }
    return named
  }

  /// An export that has grown is seen at a reload too: asked for beside the links, which stay where nothing has changed.
  private func renewIfGrown(_ name: String) {
    guard let entry = entries[name], entry.isRenewable, entry.report.state == .attached,
      // Another size than the declared one would be refused.
      entry.spec.expectedSize == nil, let size = entry.report.size, let blockSize = entry.report.blockSize,
      let server = (entry.spec.servers + [moves[name]?.server].compactMap { $0 })
        .first(where: { "\($0)" == entry.report.server })
    else { return }
    Task {
      let probe = Probe(server, tls: entry.spec.tls, timeout: entry.spec.connectTimeout)
      guard let export = try? await probe.export().value, export.size >= size + UInt64(blockSize) else { return }
      do throws(Failure) { try await entry.worker.reconnect() } catch {
        log(
          .warning, "\(name): its export has grown, and new links to it can't be had: \(error.message)",
          fields: [.attachment: name])
      }
    }
  }

  func start(_ spec: AttachmentSpec) {
    makeWorker(spec)
    order(spec.name) { $0.start() }
  }

  func makeWorker(_ spec: AttachmentSpec) {
    let queue = executor.queue
    let worker = AttachmentWorker(spec, movedTo: moves[spec.name]?.server, makeDevice: makeDevice) {
      [weak self] observation in
      queue.async { [weak self] in self?.assumeIsolated { $0.observed(observation) } }
    }
    entries[spec.name] = Entry(
      worker: worker, spec: spec, report: AttachmentReport(name: spec.name, state: .stopped, since: wallClockNow()))
    untried.insert(spec.name)
  }

  /// A task would not do: two of them may begin in any order, and a start that follows its stop is never stopped again.
  func order(_ name: String, _ body: @escaping @Sendable (isolated AttachmentWorker) -> Void) {
    guard let worker = entries[name]?.worker else { return }
    worker.executor.queue.async { worker.assumeIsolated(body) }
  }

  /// A device in use is never taken away because of a file: the change waits until nothing uses it.
  private func leaveUnlessInUse(_ name: String, _ action: Plan.Action) {
    guard let entry = entries[name] else { return }
    let found = uses(of: entry)
    let uses = found.map(\.description)
    if uses.isEmpty {
      let next: AttachmentSpec? = if case .replace(let spec) = action { spec } else { nil }
      return leave(name, next: next)
    }
    entries[name]?.phase = .deferred(action, uses: uses)
    // Processes come and go too often to tell of each.
    if case .deferred(action, let told) = entry.phase,
      found.allSatisfy({ $0.isProcess || told.contains($0.description) })
    {
      return
    }
    let change = action == .stop ? "is no longer configured" : "has changed in the configuration"
    log(
      .warning,
      "\(name): \(change), but \(entry.report.device ?? "its device") is \(uses.joined(separator: ", ")): "
        + "kept as it was until that ends",
      fields: [.attachment: name, .device: entry.report.device])
  }

  func leave(_ name: String, next: AttachmentSpec?) {
    guard let entry = entries[name] else { return }
    entries[name]?.phase = .leaving(next: next)
    Task {
      await entry.worker.stop()
      left(name, entry.worker)
    }
  }

  private func left(_ name: String, _ worker: AttachmentWorker) {
    // Who was told twice to leave has left once.
    guard let entry = entries[name], entry.worker === worker, case .leaving(let next) = entry.phase else { return }
    if let index = entry.boundIndex {
      keepLinks(index, [], false)
      if entry.keepsLegacy { _ = keepLegacy(index, nil) }
    }
    store?.remove(name)
    entries[name] = nil
    settled(name)
    for waiter in goneWaiters.removeValue(forKey: name) ?? [] { waiter.resume() }
    if let next, !isStopping { start(next) } else { tellAttachmentWaiters(of: name, .failed(nil)) }
    onChange?()
  }

  func scheduleDeferredCheck() {
    deferredTimer?.cancel()
    deferredTimer = nil
    guard !orphans.isEmpty || entries.values.contains(where: \.isDeferred), !isStopping else { return }
    let timer = DispatchSource.makeTimerSource(queue: executor.queue)
    timer.setEventHandler { [weak self] in self?.assumeIsolated { $0.checkDeferred() } }
    timer.schedule(deadline: .now() + deferredInterval.inSeconds, leeway: .milliseconds(100))
    timer.activate()
    deferredTimer = timer
  }

  private func checkDeferred() {
    for (name, entry) in entries {
      if case .deferred(let action, _) = entry.phase { leaveUnlessInUse(name, action) }
    }
    checkOrphans()
    scheduleDeferredCheck()
  }

  // MARK: Reports

  private func observed(_ observation: AttachmentWorker.Observation) {
    let name = observation.report.name
    entries[name]?.report = observation.report
    if let bound = observation.bound, bound.record.interface == .netlink, entries[name] != nil {
      entries[name]?.boundIndex = bound.record.index
      keep(bound)
    }
    tellAttachmentWaiters(observation.report)
    if let entry = entries[name]?.chronicle.notice(of: observation) { log(entry) }
    if let entry = entries[name]?.chronicle.renewal(of: observation) { log(entry) }
    guard observation.previous != nil else { return }
    if let entry = entries[name]?.chronicle.entry(for: observation) { log(entry) }
    switch observation.report.state {
    // What was taken over may have lost its links, and is known well enough.
    case .attached, .waiting, .failed, .degraded, .reconnecting: settled(name)
    case .stopped, .connecting, .detaching: break
    }
    onChange?()
  }

  private func settled(_ name: String) {
    guard untried.remove(name) != nil, untried.isEmpty else { return }
    for waiter in readyWaiters { waiter.give(()) }
    readyWaiters = []
  }

  /// Waits until every attachment has succeeded or failed its first try, but no longer than `timeout`; the names of
  /// those that have not, in order.
  package func firstTries(within timeout: Duration) async -> [String] {
    if !untried.isEmpty {
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        let answer = FirstAnswer(continuation)
        readyWaiters.append(answer)
        answer.give((), after: timeout)
      }
    }
    return untried.sorted()
  }

  /// Starts nothing more.
  func beginStopping() {
    isStopping = true
    deferredTimer?.cancel()
    deferredTimer = nil
  }
}
