package import AttachmentModel
package import LinuxKernel
package import NBDProtocol
package import Relay

/// What a device in the kernel was made from: every link that is put into it later must offer the same.
package struct DeviceIdentity: Equatable, Sendable, Codable {
  /// The server of its newest links.
  package var server: ServerURI
  package var export: ExportInfo
  package var parameters: DeviceParameters
  /// Links that it has when none is lost.
  package var linkCount: Int
  /// Of its newest links; `nil`: they are in clear.
  package var security: LinkSecurity?

  package init(
    server: ServerURI, export: ExportInfo, parameters: DeviceParameters, linkCount: Int, security: LinkSecurity? = nil
  ) {
    self.server = server
    self.export = export
    self.parameters = parameters
    self.linkCount = linkCount
    self.security = security
  }

  /// Throws, as a failure that needs a change, where `other` can't take the place of the export under the device.
  func requireCompatible(_ other: ExportInfo, _ datapath: Datapath) throws(Failure) {
    var earlier = export
    if datapath == .relay {
      // What the relay makes up for: it cuts requests to the server's measure, and does with one link.
      earlier.flags.remove(.canMultiConn)
      earlier.blockSizes = other.blockSizes
    }
    let differences = other.differences(from: earlier, blockSize: parameters.blockSize)
    guard !differences.isEmpty else { return }
    throw Failure(
      .comparing, differences.map(\.message).joined(separator: "; "),
      hint:
        "the device can't go on with it: bring the export back as it was, or stop the attachment and start it again",
      advice: .giveUp)
  }
}

/// What the next process needs to take a device over.
package struct DeviceRecord: Equatable, Sendable, Codable {
  package var spec: AttachmentSpec
  package var index: Int
  package var interface: KernelInterface
  package var identity: DeviceIdentity
  /// `nil`: direct.
  package var datapath: Datapath?
  /// `Legacy.identifier` of what was left for the next process; `nil`: nothing was, and whatever is found is none.
  package var legacy: UInt64?
  /// Of the report: writes that a server has lost, the first of them, and how many there are.
  package var dataLosses: [DataLoss]?
  package var dataLossCount: Int?

  package init(
    spec: AttachmentSpec, index: Int, interface: KernelInterface, identity: DeviceIdentity, datapath: Datapath? = nil
  ) {
    self.spec = spec
    self.index = index
    self.interface = interface
    self.identity = identity
    self.datapath = datapath
  }
}

/// A device as it is bound now, with its links' sockets and what is left beside them.
package struct BoundDevice: Sendable {
  package let record: DeviceRecord
  package let sockets: [OpenFile]
  package let legacy: Legacy?

  package init(record: DeviceRecord, sockets: [OpenFile], legacy: Legacy? = nil) {
    self.record = record
    self.sockets = sockets
    self.legacy = legacy
  }
}
