import Attachment
package import AttachmentModel
import Control
import Dispatch
package import LinuxKernel
import NBDProtocol
import Relay
import Systemd

/// Taking over, at the start, what a former process left attached.
extension Supervisor {
  /// Makes workers for the devices in the kernel that are ours; those that nobody declared any more are detached, or
  /// named where they are in use. To be followed by `reconcile`.
  ///
  /// - Parameters:
  ///   - declared: for devices of which no record is left.
  ///   - links: duplicates of links' sockets, by device number.
  ///   - relayLinks: the same of those that relays had.
  ///   - legacies: what relays have left, by device number.
  ///   - detachingOrphans: devices with our identifier, of which nothing else is known, are this daemon's to detach.
  package func adopt(
    declared: [AttachmentSpec], links: [Int: [OpenFile]], relayLinks: [Int: [OpenFile]] = [:],
    legacies: [Int: [OpenFile]] = [:], detachingOrphans: Bool = true
  ) {
    guard let kernel else { return }
    let records = store?.records() ?? [:]
    stoppedByOperator = store?.stopped() ?? []
    for name in stoppedByOperator { stoppedSince[name] = wallClockNow() }
    moves = store?.moves() ?? [:]
    let bound = kernel.bound()
    for (index, name) in bound {
      let sockets = links[index] ?? []
      let left = Left(files: legacies[index] ?? [], links: relayLinks[index] ?? [])
      let isRecorded = bound.contains { $0.name == name && $0.index == records[name]?.index }
      if let record = records[name], record.index == index, record.interface == .netlink {
        adopt(record, declared.first { $0.name == name }, sockets, left, kernel)
      } else if !isRecorded, entries[name] == nil, let spec = declared.first(where: { $0.name == name }),
        let record = recordFromKernel(spec, index, linkCount: max(1, sockets.count), hasSockets: !sockets.isEmpty)
      {
        adopt(record, spec, sockets, left, kernel)
      } else if detachingOrphans {
        orphans[index] = name
      }
    }
    let isTaken = { (index: Int) in self.entries.values.contains { $0.isRelayed(on: index) } }
    dropLegacies(legacies.filter { !isTaken($0.key) })
    endRelayLinks(relayLinks.filter { !isTaken($0.key) })
    checkOrphans()
    scheduleDeferredCheck()
  }

  /// Of the relay that a device had in the former process.
  private struct Left {
    var files: [OpenFile]
    var links: [OpenFile]
  }

  private func adopt(
    _ record: DeviceRecord, _ declared: AttachmentSpec?, _ sockets: [OpenFile], _ left: Left, _ kernel: NetlinkKernel
  ) {
    let name = record.spec.name
    let legacy = record.datapath == .relay ? legacy(of: record, left.files) : nil
    let netlinkDevice = NetlinkDevice(adopting: record, sockets: sockets, kernel: kernel)
    let device: any KernelDevice =
      record.datapath == .relay
      ? RelayedDevice(netlinkDevice, record.spec, budget: budget, inheriting: legacy, after: left.links)
      : netlinkDevice
    makeWorker(record.spec)
    // What uses it must be known before the worker tells of it: the configuration may not want it any more.
    entries[name]?.report.state = device.linkCount > 0 ? .attached : .reconnecting
    entries[name]?.report.device = "/dev/nbd\(record.index)"
    entries[name]?.report.kernelInterface = .netlink
    entries[name]?.report.datapath = device.datapath
    entries[name]?.boundIndex = record.index
    // One that was made just now is kept when the worker tells of it.
    if left.files.contains(where: { $0 === legacy?.file }) { entries[name]?.legacy = legacy }
    entries[name]?.keepsLegacy = !left.files.isEmpty
    let unwatched = device.linkCount - device.sockets.count
    let state =
      device.datapath == .relay
      ? "its I/O waits until a server is reached"
        + (legacy.map { ", which gets \(sizeText(Int64(clamping: $0.bytes))) of acknowledged writes again" } ?? "")
      : "links up: \(device.linkCount) of \(record.identity.linkCount)"
    log(
      .info,
      "\(name): taken over: /dev/nbd\(record.index), \(state)"
        + (unwatched > 0 ? ", as far as can be seen without their sockets" : ""),
      fields: [.attachment: name, .device: "/dev/nbd\(record.index)"])
    let change = declared.flatMap { Plan.change(of: record.spec, to: $0) }
    order(name) { worker in
      worker.adopt(device, of: record)
      // Before it tries for the first time: no link is made as it was declared once.
      if let change { worker.update(change) }
    }
  }

  /// Of devices that are not there any more, or have no relay: their servers would have them for ever.
  private func endRelayLinks(_ links: [Int: [OpenFile]]) {
    for (index, sockets) in links {
      for socket in sockets { Socket.shutDown(socket.number) }
      // Whoever has the device by another datapath keeps its own links after this.
      keepLinks(index, [], true)
    }
  }

  /// The kernel's own facts of a device of which nothing else is known.
  private func recordFromKernel(
    _ spec: AttachmentSpec, _ index: Int, linkCount: Int, hasSockets: Bool
  ) -> DeviceRecord? {
    guard let size = sysfs.size(of: index), size > 0, let server = spec.servers.first,
      let blockSize = sysfs.logicalBlockSize(of: index)
    else { return nil }
    let flags: TransmissionFlags = sysfs.isReadOnly(of: index) == true ? [.hasFlags, .readOnly] : [.hasFlags]
    // A device that the spec alone makes read-only does not say that the export is.
    let exportFlags: TransmissionFlags = spec.isReadOnly ? [.hasFlags] : flags
    let largestRequest = (sysfs.largestRequest(of: index) ?? 128).multipliedReportingOverflow(by: 1024).partialValue
    let parameters = DeviceParameters(
      blockSize: blockSize, size: size, maximumRequest: largestRequest, flags: flags,
      requestTimeout: spec.requestTimeout, reconnectTimeout: spec.reconnectTimeout)
    // A server that takes requests as large as the kernel makes them takes enough.
    let blockSizes = BlockSizes(
      minimum: 1, preferred: 512, maximumPayload: UInt32(clamping: parameters.maximumRequest))
    return DeviceRecord(
      spec: spec, index: index, interface: .netlink,
      identity: DeviceIdentity(
        server: server,
        export: ExportInfo(name: server.exportName, size: size, flags: exportFlags, blockSizes: blockSizes),
        parameters: parameters, linkCount: linkCount),
      // The links of a relay are kept by nobody.
      datapath: spec.isRelayed && !hasSockets ? .relay : spec.datapath == .ktls ? .ktls : .direct)
  }

  /// Devices of ours that nothing tells how to keep: detached as soon as nothing uses them.
  func checkOrphans() {
    defer { scheduleDeferredCheck() }
    guard let kernel else { return }
    for (index, name) in orphans {
      let uses = uses(ofDevice: index)
      guard uses.isEmpty else {
        if namedOrphans.insert(index).inserted {
          log(
            .warning,
            "\(name): /dev/nbd\(index) is no longer configured, but \(uses.map(\.description).joined(separator: ", ")): "
              + "left attached until that ends",
            id: .leftInUse, fields: [.attachment: name, .device: "/dev/nbd\(index)"])
        }
        continue
      }
      orphans[index] = nil
      Task { await detachOrphan(index, name, kernel) }
    }
  }

  private func detachOrphan(_ index: Int, _ name: String, _ kernel: NetlinkKernel) async {
    do throws(Failure) {
      try await kernel.disconnect(index)
      log(
        .info, "\(name): /dev/nbd\(index) was no longer configured, and is detached",
        fields: [.attachment: name, .device: "/dev/nbd\(index)"])
    } catch {
      log(.warning, "\(name): \(error.message)", fields: [.attachment: name, .device: "/dev/nbd\(index)"])
    }
  }

  /// Keeps what the next process will need, whenever a device's links have changed.
  func keep(_ bound: BoundDevice) {
    var record = bound.record
    // Before its record names it, so that none is missed that was never there.
    if let legacy = bound.legacy, !keep(legacy, of: record) { record.legacy = nil }
    do { try store?.save(record) } catch {
      log(.warning, "\(record.spec.name): its state can't be kept for the next start: \(error)")
    }
    // After its record no longer names it, for the same reason.
    if bound.legacy == nil { forgetLegacy(of: record) }
    keepLinks(record.index, bound.sockets, record.datapath == .relay)
  }
}
