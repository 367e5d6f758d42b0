package import AttachmentModel
import Glibc
package import LinuxKernel
import Synchronization

/// The driver's netlink interface as all devices of this process share it: calls, events, and whose device is whose.
///
/// Concurrency model: `devices` is shared by the workers and the queue of the driver's events, under its mutex.
package final class NetlinkKernel: Sendable {
  private struct Watched {
    weak var device: NetlinkDevice?
  }

  package let netlink: NBDNetlink
  package let registry: DeviceRegistry
  /// The directory of the devices' nodes.
  let nodes: String
  private let devices = Mutex<[Int: Watched]>([:])
  private let events = Mutex<NBDNetlinkEvents?>(nil)

  /// How long the kernel may take to say whether it has the interface.
  private static let probeLimit: Duration = .seconds(5)

  package init(netlink: NBDNetlink = NBDNetlink(), registry: DeviceRegistry, nodes: String = "/dev") {
    self.netlink = netlink
    self.registry = registry
    self.nodes = nodes
  }

  /// Why the interface can't be used now; `nil` where it can.
  package func unavailability() async -> NetlinkError? {
    switch await netlink.availability(within: NetlinkKernel.probeLimit) {
    case .success: nil
    case .failure(let error): error
    }
  }

  /// Listens to the driver from now on. `report` gets what an operator should know, one line each.
  package func listen(report: @escaping @Sendable (String) -> Void) {
    let listener = NBDNetlinkEvents(within: .seconds(30)) { [weak self] event in self?.take(event, report) }
    events.withLock { $0 = listener }
  }

  package func take(_ event: NBDNetlinkEvents.Event, _ report: (String) -> Void) {
    switch event {
    case .subscribed, .overrun: audit()
    case .absent: break
    case .linkDead(let index): device(at: index)?.driverSaysLinkDead()
    case .ended(let error): report("the nbd driver's events can't be had: \(error)")
    }
  }

  /// Looks at every device by other means than the driver's events, which can be lost.
  package func audit() {
    let all = devices.withLock { devices in devices.values.compactMap(\.device) }
    for device in all { device.checkLinks() }
  }

  /// The kernel's device of that number is bound for this attachment.
  func isOurs(_ index: Int, _ name: String) -> Bool {
    registry.sysfs.backend(of: index) == NetlinkDevice.backend(of: name)
  }

  func node(of index: Int) -> String { "\(nodes)/nbd\(index)" }

  func add(_ device: NetlinkDevice, at index: Int) {
    devices.withLock { $0[index] = Watched(device: device) }
  }

  func forget(_ index: Int, ownedBy name: String) {
    devices.withLock { devices in
      if devices[index]?.device == nil { devices[index] = nil }
    }
    registry.release(index, by: name)
  }

  private func device(at index: Int) -> NetlinkDevice? { devices.withLock { $0[index]?.device } }

  /// Devices in the kernel that an attachment of ours was bound to, by a former process too.
  package func bound() -> [(index: Int, name: String)] {
    let prefix = NetlinkDevice.backend(of: "")
    return registry.sysfs.indexes().compactMap { index in
      guard let backend = registry.sysfs.backend(of: index), backend.hasPrefix(prefix) else { return nil }
      return (index, String(backend.dropFirst(prefix.count)))
    }
  }

  /// Detaches a device of ours that no worker has.
  package func disconnect(_ index: Int) async throws(Failure) {
    do throws(NetlinkError) { try await netlink.disconnect(index: index, within: .seconds(30)) } catch {
      throw .netlink(index, error)
    }
  }
}

extension Failure {
  static func netlink(_ index: Int, _ error: NetlinkError) -> Failure {
    switch error {
    case .unavailable(let reason):
      Failure(.binding, reason, hint: "modprobe nbd", errnoCode: nil, advice: .giveUp)
    case .system(_, let code, _) where code == EPERM || code == EACCES:
      Failure(
        .binding, "/dev/nbd\(index): \(error)", hint: "nbdattachd needs root, or CAP_SYS_ADMIN", errnoCode: code,
        advice: .giveUp)
    case .system, .timedOut, .malformed:
      Failure(.binding, "/dev/nbd\(index): \(error)", errnoCode: error.code, advice: .retry)
    }
  }
}
