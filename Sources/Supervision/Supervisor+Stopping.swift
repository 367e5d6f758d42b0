import Attachment
import AttachmentModel
import Dispatch
import LinuxKernel
import Systemd

/// The end of this process: of the attachments too, or not.
extension Supervisor {
  /// Detaches everything that nothing uses, in parallel, and starts nothing more; whether all of it has ended, which is
  /// waited for no longer than `timeout` and `margin`.
  ///
  /// What is in use is named and stays in the kernel, where its interface allows that. A device of the classic one
  /// can't outlive this process (drivers/block/nbd.c: NBD_DO_IT is this process's own call): it is written out first.
  package func stopAll(timeout: Duration, margin: Duration = Supervisor.stopMargin) async -> Bool {
    beginStopping()
    let departures = entries.map { name, entry in
      let uses = uses(of: entry)
      let stays = !uses.isEmpty && entry.report.kernelInterface == .netlink
      let isRelayed = entry.report.datapath == .relay
      if !uses.isEmpty { sayInUse(name, entry.report.device, uses, stays: stays, isRelayed: isRelayed) }
      // What is not written by then waits for the next daemon: a relay carries nothing when it has ended.
      return Departure(worker: entry.worker, uses: uses, stays: stays, isWrittenOut: !stays || isRelayed)
    }
    return await end(departures, timeout: timeout, margin: margin)
  }

  /// Leaves every device to the next process, where its kernel interface allows that, and detaches the others; whether
  /// all of it was done in time.
  package func handOverAll(timeout: Duration, margin: Duration = Supervisor.stopMargin) async -> Bool {
    isHandingOver = true
    beginStopping()
    let departures = entries.map { name, entry in
      // What has no device yet, or one of netlink's, is simply left; only a classic one has to go.
      let stays = entry.report.kernelInterface != .ioctl
      let uses = stays ? [] : uses(of: entry)
      if !uses.isEmpty { sayInUse(name, entry.report.device, uses, stays: false) }
      return Departure(worker: entry.worker, uses: uses, stays: stays, isWrittenOut: !stays)
    }
    return await end(departures, timeout: timeout, margin: margin)
  }

  private struct Departure: Sendable {
    let worker: AttachmentWorker
    let uses: [DeviceUse]
    /// The device stays in the kernel.
    let stays: Bool
    let isWrittenOut: Bool
  }

  private func end(_ departures: [Departure], timeout: Duration, margin: Duration) async -> Bool {
    let hasEnded = await ended(departures, timeout: timeout, margin: margin)
    // What they told last is on this queue already, such as what is kept for the next process.
    await withCheckedContinuation { continuation in executor.queue.async { continuation.resume() } }
    return hasEnded
  }

  private func ended(_ departures: [Departure], timeout: Duration, margin: Duration) async -> Bool {
    await withCheckedContinuation { continuation in
      let answer = FirstAnswer(continuation)
      answer.give(false, after: timeout + margin)
      Task {
        await withDiscardingTaskGroup { group in
          for departure in departures {
            group.addTask {
              if departure.isWrittenOut { await Supervisor.writeOut(departure.uses, within: timeout / 2) }
              if departure.stays {
                let limit = min(timeout / 2, AttachmentWorker.defaultDrainLimit)
                return await departure.worker.handOver(within: limit)
              }
              await departure.worker.stop(timeout: timeout / 2)
            }
          }
        }
        answer.give(true)
      }
    }
  }

  private func sayInUse(
    _ name: String, _ device: String?, _ uses: [DeviceUse], stays: Bool, isRelayed: Bool = false
  ) {
    let what = "\(name): \(device ?? "its device") is \(uses.map(\.description).joined(separator: ", "))"
    let sequel =
      stays
      ? ": it is left attached" + (isRelayed ? ", and its I/O waits until the daemon runs again" : "")
      : ": it is written out and detached all the same, because the classic kernel interface keeps no device without "
        + "its daemon"
    log(.warning, what + sequel, id: .leftInUse, fields: [.attachment: name, .device: device])
  }

  private static func writeOut(_ uses: [DeviceUse], within timeout: Duration) async {
    let paths = uses.compactMap { use -> String? in if case .mounted(let path) = use { path } else { nil } }
    guard !paths.isEmpty else { return }
    _ = await BlockingThread.run("nbd-sync", within: timeout) {
      for path in paths { try? syncFileSystem(at: path) }
    }
  }
}
