import Attachment
import AttachmentModel
package import Control
import Dispatch
import LinuxKernel
import Systemd

/// What an operator asks of one attachment.
extension Supervisor {
  /// Makes it run; see `ControlActions.start`.
  package func start(_ name: String, wait: Bool, timeout: Duration?) async throws(ActionError) {
    try requireKnown(name)
    if stoppedByOperator.remove(name) != nil { saveStopped() }
    if case .leaving = entries[name]?.phase { entries[name]?.phase = .leaving(next: declared[name]) }
    if let worker = entries[name]?.worker {
      // Waited for, so that what it was before is not taken for the answer.
      await worker.retry()
    } else if let spec = declared[name] {
      start(spec)
    }
    if wait { try await untilAttached(name, within: timeout) }
  }

  /// Detaches it, until `start`; see `ControlActions.stop`.
  package func stop(_ name: String, force: Bool) async throws(ActionError) {
    try requireKnown(name)
    if let entry = entries[name] {
      let uses = uses(of: entry)
      guard force || uses.isEmpty else { throw .inUse(name: name, uses: uses.map(\.description)) }
    }
    if stoppedByOperator.insert(name).inserted { stoppedSince[name] = wallClockNow() }
    saveStopped()
    guard entries[name] != nil else { return }
    leave(name, next: nil)
    await untilGone(name)
  }

  /// Stops, then starts, without waiting for the new device.
  package func restart(_ name: String) async throws(ActionError) {
    try await stop(name, force: false)
    try await start(name, wait: false, timeout: nil)
  }

  /// Makes what waits try now.
  package func retry(_ name: String?) throws(ActionError) {
    guard let name else {
      for name in entries.keys { order(name) { $0.retry() } }
      return
    }
    try requireKnown(name)
    order(name) { $0.retry() }
  }

  /// Looks at the export again through new links, and grows the device with it.
  package func refresh(_ name: String) async throws(ActionError) { try await reconnect(name) }

  /// Makes new links in the place of all that it has; see `ControlActions.reconnect`.
  package func reconnect(_ name: String) async throws(ActionError) {
    try requireKnown(name)
    guard let worker = entries[name]?.worker else {
      throw .failed(name: name, message: "it is stopped", hint: "nbdattach start \(name)")
    }
    do throws(Failure) { try await worker.reconnect() } catch {
      throw .failed(name: name, message: error.message, hint: error.hint)
    }
  }

  /// Moves it to that server while its I/O goes on, and keeps to it; see `ControlActions.move`.
  package func move(_ name: String, to text: String) async throws(ActionError) {
    try requireKnown(name)
    let server: ServerURI
    do throws(TextError) { server = try ServerURI(parsing: text) } catch {
      throw .failed(name: name, message: "\(text.quoted()): \(error.message)", hint: error.hint)
    }
    guard let entry = entries[name] else {
      throw .failed(name: name, message: "it is stopped", hint: "nbdattach start \(name)")
    }
    do throws(Failure) { try await entry.worker.move(to: server) } catch {
      throw .failed(name: name, message: error.message, hint: error.hint)
    }
    guard let spec = entries[name]?.spec else { return }
    moves[name] = Move(server: server, declared: spec.servers)
    saveMoves()
  }

  /// The operator knows of the lost writes that the status shows.
  package func acknowledge(_ name: String) throws(ActionError) {
    try requireKnown(name)
    order(name) { $0.acknowledge() }
  }

  /// A server that is declared now, and to which the attachment was moved before, is in use already, whatever its export
  /// is called.
  func adoptMoves() {
    for (name, move) in moves {
      guard let servers = declared[name]?.servers, servers != move.declared, servers.contains(move.server),
        var spec = entries[name]?.spec
      else { continue }
      spec.servers = servers
      entries[name]?.spec = spec
      order(name) { [spec] in $0.update(spec) }
    }
  }

  /// Whoever declares other servers has taken the move into account.
  func forgetMoves() {
    let before = moves
    moves = moves.filter { name, move in declared[name]?.servers == move.declared }
    if moves != before { saveMoves() }
  }

  private func saveMoves() {
    do { try store?.saveMoves(moves) } catch {
      log(.warning, "what was moved can't be kept for the next start: \(error)")
    }
  }

  /// From now on no attachment holds I/O longer than this; see `ControlActions.endHolding`.
  package func endHolding(after limit: Duration) {
    let isFirst = holdingEnds == nil
    holdingEnds = (since: wallClockNow(), limit: limit)
    if isFirst { checkHolding() }
  }

  private func checkHolding() {
    guard let holdingEnds, !isStopping else { return }
    let now = wallClockNow()
    for (name, entry) in entries where entry.report.holdsIO {
      guard now - max(holdingEnds.since, entry.report.since) >= holdingEnds.limit.inSeconds else { continue }
      log(
        .warning, "\(name): its server is gone, and I/O that waits for it fails now, so that the system can end",
        fields: [.attachment: name, .device: entry.report.device])
      leave(name, next: nil)
    }
    executor.queue.asyncAfter(deadline: .now() + 0.5) { [weak self] in self?.assumeIsolated { $0.checkHolding() } }
  }

  private func requireKnown(_ name: String) throws(ActionError) {
    if isStopping { throw .stopping }
    guard entries[name] != nil || declared[name] != nil else { throw .noSuchAttachment(name: name) }
  }

  private func saveStopped() {
    do { try store?.saveStopped(stoppedByOperator) } catch {
      log(.warning, "what was stopped can't be kept for the next start: \(error)")
    }
  }

  private func untilAttached(_ name: String, within timeout: Duration?) async throws(ActionError) {
    let outcome = await withCheckedContinuation { continuation in
      let answer = FirstAnswer<Outcome>(continuation)
      attachmentWaiters[name, default: []].append(answer)
      if let timeout { answer.give(.timedOut, after: timeout) }
      if let report = entries[name]?.report { tellAttachmentWaiters(report) }
    }
    switch outcome {
    case .attached: return
    case .failed(let failure):
      throw .failed(name: name, message: failure?.message ?? "it was stopped", hint: failure?.hint)
    case .timedOut:
      let failure = entries[name]?.report.failure
      throw .timedOut(name: name, message: failure?.message, hint: failure?.hint)
    }
  }

  /// Who waits for an attachment hears of it as soon as it is clear what became of it.
  func tellAttachmentWaiters(_ report: AttachmentReport) {
    let outcome: Outcome
    switch report.state {
    case .attached, .degraded: outcome = .attached
    case .failed: outcome = .failed(report.failure)
    case .stopped, .connecting, .reconnecting, .waiting, .detaching: return
    }
    tellAttachmentWaiters(of: report.name, outcome)
  }

  func tellAttachmentWaiters(of name: String, _ outcome: Outcome) {
    for waiter in attachmentWaiters.removeValue(forKey: name) ?? [] { waiter.give(outcome) }
  }

  private func untilGone(_ name: String) async {
    guard entries[name] != nil else { return }
    await withCheckedContinuation { goneWaiters[name, default: []].append($0) }
  }
}

extension Supervisor {
  /// What became of an attachment that somebody waits for.
  enum Outcome: Sendable {
    case attached
    case failed(Failure?)
    case timedOut
  }
}

extension AttachmentReport {
  /// There is a device, no link, and whoever uses it waits.
  fileprivate var holdsIO: Bool {
    switch state {
    case .reconnecting: true
    // With a device and no link, it is one that fails in a way that only a change can mend.
    case .failed: device != nil && links == 0
    case .stopped, .connecting, .attached, .degraded, .waiting, .detaching: false
    }
  }
}
