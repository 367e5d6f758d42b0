package import Attachment
package import AttachmentModel
import Dispatch
package import LinuxKernel
package import Systemd

/// Compares what is declared with what runs, and starts, changes and stops workers.
///
/// Concurrency model: an actor on a serial queue of its own. Workers report on their queues, and get their orders there;
/// both go from queue to queue, so that they arrive in the order in which they were given. Reconciling never awaits.
package actor Supervisor {
  package nonisolated let executor = QueueExecutor(label: "supervisor")
  package nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  package typealias MakeDevice = @Sendable (AttachmentSpec) -> any KernelDevice

  private struct Entry {
    let worker: AttachmentWorker
    var spec: AttachmentSpec
    var report: AttachmentReport
    var chronicle = Chronicle()
    var phase = Phase.running

    var isDeferred: Bool {
      if case .deferred = phase { true } else { false }
    }
  }

  private enum Phase: Equatable {
    case running
    /// Removed or changed in the configuration, but in use: it goes on as it was until that ends.
    case deferred(Plan.Action, uses: [String])
    /// Stops; then becomes this.
    case leaving(next: AttachmentSpec?)
  }

  private let log: Log
  private let sysfs: NBDSysfs
  private let makeDevice: MakeDevice
  private let procfs: String
  private let deferredInterval: Duration
  private var entries: [String: Entry] = [:]
  /// Started, and neither attached nor refused yet.
  private var untried: Set<String> = []
  private var readyWaiters: [FirstAnswer<Void>] = []
  private var onChange: (@Sendable () -> Void)?
  private var deferredTimer: (any DispatchSourceTimer)?
  /// Nothing is started any more.
  private var isStopping = false

  /// How much longer than its timeout stopping may take, before what does not end is left behind: workers force what
  /// they can't have in order.
  package static let stopMargin: Duration = .seconds(10)

  /// - Parameter deferredInterval: how often a device that is in use is looked at again.
  package init(
    log: Log, sysfs: NBDSysfs = NBDSysfs(), procfs: String = "/proc", deferredInterval: Duration = .seconds(5),
    makeDevice: @escaping MakeDevice
  ) {
    self.log = log
    self.sysfs = sysfs
    self.procfs = procfs
    self.deferredInterval = deferredInterval
    self.makeDevice = makeDevice
  }

  /// `body` is called after each change of any attachment's state.
  package func onChange(_ body: @escaping @Sendable () -> Void) { onChange = body }

  /// What is known of every attachment, by name.
  package func reports() -> [AttachmentReport] {
    entries.values.map { entry in
      var report = entry.report
      if case .deferred(let action, let uses) = entry.phase {
        report.activity =
          "\(action == .stop ? "removed from" : "changed in") the configuration, and kept while "
          + uses.joined(separator: ", ")
      }
      return report
    }.sorted { $0.name < $1.name }
  }

  // MARK: Reconciling

  /// Makes what runs what is declared. Returns at once; what waits tries again now.
  package func reconcile(_ declared: [AttachmentSpec]) {
    if isStopping { return }
    var running: [String: AttachmentSpec] = [:]
    for (name, entry) in entries {
      if case .leaving = entry.phase { continue }
      running[name] = entry.spec
    }
    let plan = Plan(declared: declared, running: running)
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
    case .update(let spec):
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

  private func start(_ spec: AttachmentSpec) {
    let queue = executor.queue
    let worker = AttachmentWorker(spec, makeDevice: makeDevice) { [weak self] observation in
      queue.async { [weak self] in self?.assumeIsolated { $0.observed(observation) } }
    }
    entries[spec.name] = Entry(
      worker: worker, spec: spec, report: AttachmentReport(name: spec.name, state: .stopped, since: wallClockNow()))
    untried.insert(spec.name)
    order(spec.name) { $0.start() }
  }

  /// A task would not do: two of them may begin in any order, and a start that follows its stop is never stopped again.
  private func order(_ name: String, _ body: @escaping @Sendable (isolated AttachmentWorker) -> Void) {
    guard let worker = entries[name]?.worker else { return }
    worker.executor.queue.async { worker.assumeIsolated(body) }
  }

  /// A device in use is never taken away because of a file: the change waits until nothing uses it.
  private func leaveUnlessInUse(_ name: String, _ action: Plan.Action) {
    guard let entry = entries[name] else { return }
    let uses = uses(of: entry).map(\.description)
    if uses.isEmpty {
      let next: AttachmentSpec? = if case .replace(let spec) = action { spec } else { nil }
      return leave(name, next: next)
    }
    if case .deferred(action, uses) = entry.phase { return }
    entries[name]?.phase = .deferred(action, uses: uses)
    let change = action == .stop ? "is no longer configured" : "has changed in the configuration"
    log(
      .warning,
      "\(name): \(change), but \(entry.report.device ?? "its device") is \(uses.joined(separator: ", ")): "
        + "kept as it was until that ends",
      fields: [.attachment: name, .device: entry.report.device])
  }

  private func leave(_ name: String, next: AttachmentSpec?) {
    guard let entry = entries[name] else { return }
    entries[name]?.phase = .leaving(next: next)
    Task {
      await entry.worker.stop()
      left(name)
    }
  }

  private func left(_ name: String) {
    guard case .leaving(let next) = entries[name]?.phase else { return }
    entries[name] = nil
    settled(name)
    if let next, !isStopping { start(next) }
    onChange?()
  }

  /// A device that has lost its link has nothing more to lose, and its number may be another program's by now.
  private func uses(of entry: Entry) -> [DeviceUse] {
    guard entry.report.holdsDevice,
      let index = entry.report.device.flatMap({ Int($0.dropFirst("/dev/nbd".count)) })
    else { return [] }
    return DeviceUse.uses(ofDevice: index, sysfs: sysfs, procfs: procfs)
  }

  private func scheduleDeferredCheck() {
    deferredTimer?.cancel()
    deferredTimer = nil
    guard entries.values.contains(where: \.isDeferred) else { return }
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
    scheduleDeferredCheck()
  }

  // MARK: Reports

  private func observed(_ observation: AttachmentWorker.Observation) {
    let name = observation.report.name
    entries[name]?.report = observation.report
    guard observation.previous != nil else { return }
    if let entry = entries[name]?.chronicle.entry(for: observation) { log(entry) }
    switch observation.report.state {
    case .attached, .waiting, .failed: settled(name)
    case .stopped, .connecting, .degraded, .reconnecting, .detaching: break
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

  // MARK: Stopping

  /// Detaches everything, in parallel, and starts nothing more; whether all of it has ended, which is waited for no
  /// longer than `timeout` and `margin`. What is in use is written out first and named: a device of the classic
  /// interface can't outlive this process (drivers/block/nbd.c: NBD_DO_IT is this process's own call).
  package func stopAll(timeout: Duration, margin: Duration = Supervisor.stopMargin) async -> Bool {
    isStopping = true
    deferredTimer?.cancel()
    deferredTimer = nil
    let departures = entries.map { name, entry in
      let uses = uses(of: entry)
      if !uses.isEmpty { sayInUse(name, entry.report.device, uses) }
      return (worker: entry.worker, uses: uses)
    }
    return await withCheckedContinuation { continuation in
      let answer = FirstAnswer(continuation)
      answer.give(false, after: timeout + margin)
      Task {
        await withDiscardingTaskGroup { group in
          for (worker, uses) in departures {
            group.addTask {
              await Supervisor.writeOut(uses, within: timeout / 2)
              await worker.stop(timeout: timeout / 2)
            }
          }
        }
        answer.give(true)
      }
    }
  }

  private func sayInUse(_ name: String, _ device: String?, _ uses: [DeviceUse]) {
    log(
      .warning,
      "\(name): \(device ?? "its device") is \(uses.map(\.description).joined(separator: ", ")): it is written out and "
        + "detached all the same, because the classic kernel interface keeps no device without its daemon",
      id: .leftInUse, fields: [.attachment: name, .device: device])
  }

  private static func writeOut(_ uses: [DeviceUse], within timeout: Duration) async {
    let paths = uses.compactMap { use -> String? in if case .mounted(let path) = use { path } else { nil } }
    guard !paths.isEmpty else { return }
    _ = await BlockingThread.run("nbd-sync", within: timeout) {
      for path in paths { try? syncFileSystem(at: path) }
    }
  }
}

extension AttachmentReport {
  /// There is a device whose I/O flows or waits.
  fileprivate var holdsDevice: Bool {
    switch state {
    case .attached, .degraded, .reconnecting: true
    case .stopped, .connecting, .waiting, .detaching, .failed: false
    }
  }
}
