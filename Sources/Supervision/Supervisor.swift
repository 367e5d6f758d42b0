package import Attachment
package import AttachmentModel
import Dispatch
package import LinuxKernel
package import Systemd

/// Compares what is declared with what runs, and starts, changes and stops workers.
///
/// Concurrency model: an actor on a serial queue of its own. Workers report on their queues; the reports are put on
/// this one in order.
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
  private var entries: [String: Entry] = [:]
  /// Started, and neither attached nor refused yet.
  private var untried: Set<String> = []
  private var readyWaiters: [FirstAnswer<Bool>] = []
  private var onChange: (@Sendable () -> Void)?
  private var deferredTimer: (any DispatchSourceTimer)?

  /// How often a device that is in use is looked at again.
  private static let deferredInterval: Duration = .seconds(5)

  package init(
    log: Log, sysfs: NBDSysfs = NBDSysfs(), procfs: String = "/proc", makeDevice: @escaping MakeDevice
  ) {
    self.log = log
    self.sysfs = sysfs
    self.procfs = procfs
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
  package func reconcile(_ declared: [AttachmentSpec]) async {
    var running: [String: AttachmentSpec] = [:]
    for (name, entry) in entries {
      if case .leaving = entry.phase { continue }
      running[name] = entry.spec
    }
    let plan = Plan(declared: declared, running: running)
    for (name, action) in plan.actions.sorted(by: { $0.key < $1.key }) { await apply(action, to: name) }
    for (name, entry) in entries {
      if case .leaving(.some) = entry.phase, plan.actions[name] == nil { entries[name]?.phase = .leaving(next: nil) }
    }
    scheduleDeferredCheck()
  }

  private func apply(_ action: Plan.Action, to name: String) async {
    switch action {
    case .start(let spec):
      if entries[name] != nil { entries[name]?.phase = .leaving(next: spec) } else { start(spec) }
    case .keep:
      entries[name]?.phase = .running
      await entries[name]?.worker.retry()
    case .update(let spec):
      entries[name]?.phase = .running
      entries[name]?.spec = spec
      await entries[name]?.worker.update(spec)
      await entries[name]?.worker.retry()
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
    Task { await worker.start() }
  }

  /// A device in use is never taken away because of a file: the change waits until nothing uses it.
  private func leaveUnlessInUse(_ name: String, _ action: Plan.Action) {
    guard let entry = entries[name] else { return }
    // A device that has lost its link has nothing more to lose.
    let uses = entry.report.holdsDevice ? uses(of: entry).map(\.description) : []
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
    if let next { start(next) }
    onChange?()
  }

  private func uses(of entry: Entry) -> [DeviceUse] {
    guard let index = entry.report.device.flatMap({ Int($0.dropFirst("/dev/nbd".count)) }) else { return [] }
    return DeviceUse.uses(ofDevice: index, sysfs: sysfs, procfs: procfs)
  }

  private func scheduleDeferredCheck() {
    deferredTimer?.cancel()
    deferredTimer = nil
    guard entries.values.contains(where: \.isDeferred) else { return }
    let timer = DispatchSource.makeTimerSource(queue: executor.queue)
    timer.setEventHandler { [weak self] in self?.assumeIsolated { $0.checkDeferred() } }
    timer.schedule(deadline: .now() + Supervisor.deferredInterval.inSeconds, leeway: .seconds(1))
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
    for waiter in readyWaiters { waiter.give(true) }
    readyWaiters = []
  }

  /// Waits until every attachment has succeeded or failed its first try; whether they all have within `timeout`.
  package func firstTries(within timeout: Duration) async -> Bool {
    if untried.isEmpty { return true }
    return await withCheckedContinuation { continuation in
      let answer = FirstAnswer(continuation)
      readyWaiters.append(answer)
      answer.give(false, after: timeout)
    }
  }

  // MARK: Stopping

  /// Detaches everything, in parallel. What is in use is written out first and named: a device of the classic
  /// interface can't outlive this process (drivers/block/nbd.c: NBD_DO_IT is this process's own call).
  package func stopAll(timeout: Duration) async {
    deferredTimer?.cancel()
    deferredTimer = nil
    await withDiscardingTaskGroup { group in
      for (name, entry) in entries {
        let uses = uses(of: entry)
        if !uses.isEmpty { sayInUse(name, entry.report.device, uses) }
        group.addTask {
          await Supervisor.writeOut(uses, within: timeout / 2)
          await entry.worker.stop(timeout: timeout / 2)
        }
      }
    }
  }

  private func sayInUse(_ name: String, _ device: String?, _ uses: [DeviceUse]) {
    log(
      .warning,
      "\(name): \(device ?? "its device") is \(uses.map(\.description).joined(separator: ", ")): what is mounted is "
        + "written out, but the classic kernel interface can't keep a device without its daemon, so its I/O fails now",
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
