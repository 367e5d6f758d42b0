import AttachmentModel
import Dispatch
import LinuxKernel
import NBDProtocol
import Synchronization

/// Which server the links lead to, and what the device tells of it.
extension AttachmentWorker {
  /// Why links that are up are renewed.
  enum Renewal: Equatable {
    /// The export may have changed, or the credentials.
    case again
    /// Something else is declared than what they were made for.
    case carrying
    /// The operator wants that one.
    case moving(to: ServerURI)
    /// One that is declared before the one in use may be back.
    case failingBack
    /// The one in use does not answer.
    case superseding
  }

  /// The servers to try, in their order. All links of a device lead to one.
  ///
  /// A server to which the operator has moved comes first; where it is none of those declared, the others don't have what
  /// was written to it since, so that it is the only one.
  func servers(for placement: LinkPlacement) -> [ServerURI] {
    let usual = usualServers
    let current = identity?.server
    let others = usual.filter { $0 != current }
    let isCurrentUsual = others.count < usual.count
    switch placement {
    case .replacingLost:
      guard let current else { return usual }
      if let device, device.linkCount > 0 { return [current] }
      return isCurrentUsual ? [current] + others : usual
    case .superseding:
      return others + usual.filter { $0 == current }
    case .replacingAll:
      switch renewal {
      case .again: return current.map { isCurrentUsual && !isOutdated ? [$0] : usual } ?? usual
      case .carrying, .superseding: return usual
      case .moving(let server): return [server]
      case .failingBack: return Array(usual.prefix { $0 != current })
      }
    }
  }

  /// How lost links are replaced. Where some of those that are left are silent, the server in use is as good as lost with
  /// them: another of the list may take its place.
  var repairPlacement: LinkPlacement {
    guard let device, device.linkCount > 0, device.silentLinks > 0 else { return .replacingLost }
    return .superseding
  }

  private var usualServers: [ServerURI] {
    guard let movedTo else { return spec.servers }
    guard spec.servers.contains(movedTo) else { return [movedTo] }
    return [movedTo] + spec.servers.filter { $0 != movedTo }
  }

  // MARK: Going back

  /// Looks for a better server after the fail-back time, where there may be one.
  func scheduleFailBack() {
    failBackTimer?.cancel()
    failBackTimer = nil
    guard let failBack = spec.failBack, let current = identity?.server, usualServers.contains(current),
      usualServers.first != current
    else { return }
    let timer = DispatchSource.makeTimerSource(queue: executor.queue)
    timer.setEventHandler { [weak self] in
      // Where something else is under way, its end schedules the next.
      self?.assumeIsolated { $0.begin(.failingBack) }
    }
    timer.schedule(deadline: .now() + failBack.inSeconds, leeway: .milliseconds(50))
    timer.activate()
    failBackTimer = timer
  }

  // MARK: What the device tells

  func listen(to device: any KernelDevice) {
    let queue = executor.queue
    device.tellNotices { [weak self] notice in
      queue.async { [weak self] in self?.assumeIsolated { $0.noticed(notice) } }
    }
  }

  /// How many ranges of lost bytes are kept: those of one outage, which the relay bounds, and of some more.
  private static let mostDataLosses = 128

  func noticed(_ notice: DeviceNotice) {
    switch notice {
    case .silent: begin(.superseding)
    case .stalled(let seconds): report.stalledSince = wallClockNow() - Double(seconds)
    case .flowing: report.stalledSince = nil
    case .dataLost(let loss):
      report.dataLossCount += loss.writes
      if report.dataLosses.count < AttachmentWorker.mostDataLosses {
        report.dataLosses.append(loss)
        publishBinding()
      }
    case .keepsChanged: return publishBinding()
    case .recovered, .flushFailed, .leftUnflushed, .leftUntold, .legacyLost, .awaitsFormerLinks, .serverChanged,
      .renewedAsDeclared, .kernelMisbehaved:
      break
    }
    publish(notice)
  }

  /// A server that is silent still, after no other link could be had: again, after a while.
  func scheduleSuperseding() {
    guard !isSupersedingDue, let device, device.silentLinks > 0 else { return }
    isSupersedingDue = true
    let pause = min(max(spec.requestTimeout ?? .seconds(10), .seconds(1)), .seconds(10))
    executor.queue.asyncAfter(deadline: .now() + pause.inSeconds) { [weak self] in
      self?.assumeIsolated { worker in
        worker.isSupersedingDue = false
        guard let device = worker.device, device.silentLinks > 0 else { return }
        worker.begin(.superseding)
        worker.scheduleSuperseding()
      }
    }
  }
}

/// Reads what a worker's device has counted, for whoever asks.
///
/// Concurrency model: the device is set by the worker and read by anybody, under the mutex.
final class Meter: Sendable {
  private struct Watched {
    weak var device: (any KernelDevice)?
  }

  private let watched = Mutex(Watched())

  func watch(_ device: (any KernelDevice)?) {
    watched.withLock { $0.device = device }
  }

  var statistics: IOStatistics? { watched.withLock { $0.device }?.statistics }
}
