import AttachmentModel
import LinuxKernel
import NBDProtocol

/// One attempt: from the servers of the spec to links in the kernel.
extension AttachmentWorker {
  /// Makes links for what is wanted now: begins anew where something else was wanted when it began.
  func makeLinks(_ generation: Lifecycle.Generation, _ placement: LinkPlacement) async throws(Failure) {
    while true {
      let scope = scope
      do throws(Failure) { return try await connectAndBind(generation, repairing(placement), in: scope) } catch {
        guard scope !== self.scope else { throw error }
        if case .detaching = lifecycle.state { throw error }
        // What is declared now may know nothing better.
        if renewal == .failingBack { renewal = .carrying }
      }
    }
  }

  /// Links that are up and were made for something else get no company: all are made anew.
  private func repairing(_ placement: LinkPlacement) -> LinkPlacement {
    guard placement == .replacingLost, isOutdated else { return placement }
    renewal = .carrying
    return .replacingAll
  }

  /// Tries the servers in their order; when all fail, says of each why.
  private func connectAndBind(
    _ generation: Lifecycle.Generation, _ placement: LinkPlacement, in scope: AttemptScope
  ) async throws(Failure) {
    let intent = intent
    var failures: [(server: ServerURI, failure: Failure)] = []
    for server in servers(for: placement) {
      do throws(Failure) {
        return try await connectAndBind(server, for: intent, generation, placement, in: scope)
      } catch {
        failures.append((server, error))
        // A device that can't be had is not the server's fault; the next one would meet the same.
        if error.phase == .binding || error.isCancellation { break }
      }
    }
    throw Failure.combined(failures)
  }

  private func connectAndBind(
    _ server: ServerURI, for intent: Intent, _ generation: Lifecycle.Generation, _ placement: LinkPlacement,
    in scope: AttemptScope
  ) async throws(Failure) {
    if placement == .replacingLost {
      report.server = "\(server)"
      report.export = server.exportName
    }
    let device: any KernelDevice
    if let known = self.device {
      device = known
    } else {
      device = try await makeDevice(spec)
      listen(to: device)
    }
    try requireCarriable(server, by: device)
    let connector = Connector(
      server: server, tls: spec.tls, isForKernelTLS: device.datapath == .ktls, scope: scope
    ) { [self] step in
      report.activity = step
      publish()
    }
    var links: [Link] = []
    do throws(Failure) {
      links.append(try await link(by: connector, for: device, in: scope))
      let identity = try identity(from: links[0], device, placement)
      let wanted = linksWanted(of: identity, for: placement, device)
      while links.count < wanted {
        let link = try await link(by: connector, for: device, in: scope)
        try requireSame(link, as: links[0])
        links.append(link)
      }
      try requireProtected(links, for: intent)
      report.activity = "binding"
      publish()
      let isPartial = isPartial(placement, to: server, device)
      try await device.bind(links, identity.parameters, placement, onLoss: lossCallback(generation))
      // Kept only once it is bound: until then another try may need another interface.
      self.device = device
      keep(identity, for: intent, isPartial: isPartial)
      fill(from: device, self.identity ?? identity)
    } catch {
      // A server may keep a client that does not take its leave; what the kernel has got is the kernel's.
      for link in links where !device.owns(link) { leave(link, scope) }
      throw error
    }
  }

  /// A device that was made for other servers may be moved to this one.
  private func requireCarriable(_ server: ServerURI, by device: any KernelDevice) throws(Failure) {
    try requireProtected(server)
    switch device.datapath {
    case .relay: break
    case .ktls: try Link.requireKernelTLS(server)
    case .direct:
      guard server.usesTLS else { break }
      throw Failure(
        .comparing, "`datapath: direct` can't carry TLS: the kernel speaks to the server itself",
        hint: "write `datapath: relay`, then stop the attachment and start it again", advice: .giveUp)
    }
  }

  /// No link gets into the device but such as is wanted now: what was declared meanwhile may want more of it.
  private func requireProtected(_ links: [Link], for intent: Intent) throws(Failure) {
    guard intent == self.intent else {
      throw Failure(.comparing, "something else was declared while the link was made", advice: .retry)
    }
    for protection in links.map({ Protection($0.security) }) where protection < spec.requiredProtection {
      throw Failure.unprotected(protection)
    }
  }

  /// A server that the operator chooses may be none of those declared.
  func requireProtected(_ server: ServerURI) throws(Failure) {
    let protection = spec.protection(by: server)
    guard protection >= spec.requiredProtection else { throw .unprotected(protection) }
  }

  /// Makes a link in the form in which the device takes it.
  private func link(
    by connector: Connector, for device: any KernelDevice, in scope: AttemptScope
  ) async throws(Failure) -> Link {
    let link = try await connector.link(timeout: spec.connectTimeout)
    guard device.datapath == .ktls else { return link }
    do { return try link.givenToKernel() } catch {
      leave(link, scope)
      throw error
    }
  }

  private func leave(_ link: Link, _ scope: AttemptScope) {
    let stream = ByteStream(link.socket, tls: link.tls, scope: scope)
    stream.writeIfPossible(Request(.disconnect, cookie: 0).bytes)
    stream.closeTLS()
  }

  private func linksWanted(of identity: DeviceIdentity, for placement: LinkPlacement, _ device: any KernelDevice) -> Int
  {
    switch placement {
    case .replacingLost: identity.linkCount - device.linkCount
    case .replacingAll: identity.linkCount
    case .superseding:
      // The silent ones, and those that are lost.
      identity.server == self.identity?.server
        ? max(device.silentLinks, identity.linkCount - device.linkCount + device.silentLinks) : identity.linkCount
    }
  }

  /// What the device is made from, or would be: checked against what was declared, and against what the device that
  /// there is was made from.
  private func identity(
    from link: Link, _ device: any KernelDevice, _ placement: LinkPlacement
  ) throws(Failure) -> DeviceIdentity {
    var export = link.export
    if let expected = spec.expectedSize, export.size != expected {
      throw Failure(
        .comparing, "the export has \(export.size) bytes, and \(expected) are expected",
        hint: "correct expect: { size: … }, or the export", advice: .giveUp)
    }
    if let identity, device.isAlive {
      try identity.requireCompatible(export, device.datapath)
      // Links that are up may not know that the export has grown, and refuse what lies past its old end (nbdkit does).
      if placement != .replacingAll, device.linkCount > 0 { export.size = identity.export.size }
    }
    let blockSize = (device.isAlive ? identity?.parameters.blockSize : nil) ?? spec.blockSize
    let geometry: DeviceGeometry
    do {
      geometry = try DeviceGeometry(of: export, wantedBlockSize: blockSize, largestBlockSize: systemPageSize())
    } catch {
      throw Failure(.comparing, error.message, advice: .giveUp)
    }
    let linkCount = export.flags.contains(.canMultiConn) ? connections(device) : 1
    // What the driver acts on; several connections are another matter than several that are allowed.
    var flags = export.flags.intersection([
      .hasFlags, .readOnly, .sendFlush, .sendFUA, .rotational, .sendTrim, .sendWriteZeroes,
    ])
    if linkCount > 1, device.datapath != .relay { flags.insert(.canMultiConn) }
    if spec.isReadOnly { flags.insert(.readOnly) }
    return DeviceIdentity(
      server: link.server, export: export,
      parameters: DeviceParameters(
        blockSize: geometry.blockSize, size: geometry.size,
        maximumRequest: device.datapath == .relay ? RelayedDevice.largestRequest : geometry.maximumRequest,
        flags: flags,
        requestTimeout: spec.requestTimeout, reconnectTimeout: spec.reconnectTimeout),
      linkCount: linkCount, security: link.security)
  }

  /// To a server that allows several.
  private func connections(_ device: any KernelDevice) -> Int {
    switch device.datapath {
    case .relay: spec.connections ?? min(4, processorCount())
    // More than one would wait 30 s for what was under way on a lost one; the classic interface has one.
    case .direct, .ktls: device.interface == .netlink ? spec.connections ?? 1 : 1
    }
  }

  /// All links of a device must show the same export (proto.md, NBD_FLAG_CAN_MULTI_CONN).
  private func requireSame(_ link: Link, as first: Link) throws(Failure) {
    guard link.export.size == first.export.size, link.export.flags == first.export.flags else {
      throw Failure(
        .comparing, "\(link.server) shows another export on its second connection", advice: .giveUp)
    }
  }
}
