import AttachmentModel
import Dispatch
import LinuxKernel

/// What uses the devices.
extension Supervisor {
  /// A device that has lost its link has nothing more to lose, and its number may be another program's by now.
  func uses(of entry: Entry) -> [DeviceUse] { entry.heldIndex.map { uses(ofDevice: $0) } ?? [] }

  /// One look at the system answers for all devices, and for everything that was in the queue when it was taken: it
  /// goes through all processes, which a thousand devices can't each do.
  func uses(ofDevice index: Int) -> [DeviceUse] {
    if let uses = survey?[index] { return uses }
    let isFirst = survey == nil
    let indexes = Set(entries.values.compactMap(\.heldIndex)).union(orphans.keys).union([index])
    let found = DeviceUse.uses(ofDevices: indexes, sysfs: sysfs, procfs: procfs)
    survey = Dictionary(uniqueKeysWithValues: indexes.map { ($0, found[$0] ?? []) })
    if isFirst {
      executor.queue.async { [weak self] in self?.assumeIsolated { $0.survey = nil } }
    }
    return found[index] ?? []
  }
}

extension Supervisor.Entry {
  /// The number of the device whose I/O flows or waits, or can be made to flow again.
  fileprivate var heldIndex: Int? {
    let isHeld =
      switch report.state {
      case .attached, .degraded, .reconnecting: true
      case .connecting, .waiting, .failed: report.kernelInterface == .netlink || report.datapath == .relay
      case .stopped, .detaching: false
      }
    return isHeld ? report.device.flatMap { Int($0.dropFirst("/dev/nbd".count)) } : nil
  }
}
