import AttachmentModel
import Dispatch
import LinuxKernel

/// What links are made for, and how links that are up get there when that changes.
extension AttachmentWorker {
  struct Intent: Equatable {
    var settings: LinkSettings
    /// Where the operator has moved it.
    var movedTo: ServerURI?
  }

  var intent: Intent { Intent(settings: spec.linkSettings, movedTo: movedTo) }

  /// Links that are up were made for something else. They go on, since nothing that works is broken for a file; but each
  /// new link is made for what is wanted now, and all of them as soon as can be.
  var isOutdated: Bool {
    guard let carried, let device, device.linkCount > 0 else { return false }
    return carried != intent
  }

  /// What is under way begins anew, links that are up are renewed, and what waits tries now.
  func intentChanged() {
    report.renewalFailure = nil
    if lifecycle.state.isAttempting {
      let former = scope
      scope = AttemptScope(queue: executor.queue)
      former.cancel()
    } else {
      retry()
    }
  }

  /// Whoever declares other servers has taken the move into account; one to which it was moved before is in use already.
  func forgetMove(for servers: [ServerURI]) {
    if let movedTo, movedTo == identity?.server, servers.contains(movedTo) {
      carried?.settings.servers = servers
      carried?.movedTo = nil
    }
    movedTo = nil
  }

  /// Renews links that were made for something else, unless something is under way: its end tries again.
  func carryIntent() {
    if isOutdated { begin(.carrying) }
  }

  /// Where new links can't be had, they are tried for as slowly as what can't succeed without a change.
  func scheduleCarrying() {
    carryTimer?.cancel()
    carryTimer = nil
    guard isOutdated, case .attached = lifecycle.state else { return }
    guard report.renewalFailure != nil else { return carryIntent() }
    let timer = DispatchSource.makeTimerSource(queue: executor.queue)
    timer.setEventHandler { [weak self] in self?.assumeIsolated { $0.carryIntent() } }
    timer.schedule(deadline: .now() + newSlowPause().inSeconds, leeway: .milliseconds(50))
    timer.activate()
    carryTimer = timer
  }

  /// The new links are not all that there will be.
  func isPartial(_ placement: LinkPlacement, to server: ServerURI, _ device: any KernelDevice) -> Bool {
    switch placement {
    case .replacingAll: false
    case .replacingLost: device.linkCount > 0
    case .superseding: server == identity?.server
    }
  }

  /// Notes what the device is made from now. What is said of its protection holds for each of its links.
  func keep(_ identity: DeviceIdentity, for intent: Intent, isPartial: Bool) {
    let former = self.identity
    self.identity = identity
    if isPartial, carried != intent { self.identity?.security = former?.security } else { carried = intent }
  }
}
