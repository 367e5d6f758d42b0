import AttachmentModel
import Foundation
import NBDProtocol
import Testing

@testable import Attachment

@Suite("what an export must still be to take its place under a device")
struct DeviceIdentityTests {
  private static let export = ExportInfo(
    name: "data", size: 1 << 20, flags: [.hasFlags, .sendFlush, .sendTrim],
    blockSizes: BlockSizes(minimum: 512, preferred: 4096, maximumPayload: 1 << 20))

  private static let identity = DeviceIdentity(
    server: ServerURI(address: .tcp(host: "h", port: 10809), exportName: "data"), export: export,
    parameters: DeviceParameters(
      blockSize: 4096, size: 1 << 20, maximumRequest: 1 << 20, flags: [.hasFlags, .sendFlush], requestTimeout: nil,
      reconnectTimeout: .seconds(90)),
    linkCount: 2)

  private func changed(_ change: (inout ExportInfo) -> Void) -> ExportInfo {
    var export = Self.export
    change(&export)
    return export
  }

  @Test("the same one, under another name, larger, or with more features, is compatible")
  func compatible() throws {
    try Self.identity.requireCompatible(Self.export, .direct)
    try Self.identity.requireCompatible(changed { $0.name = "other" }, .direct)
    try Self.identity.requireCompatible(changed { $0.size = 2 << 20 }, .direct)
    try Self.identity.requireCompatible(changed { $0.flags.insert(.sendFUA) }, .direct)
    try Self.identity.requireCompatible(
      changed { $0.blockSizes = BlockSizes(minimum: 4096, preferred: 4096, maximumPayload: 2 << 20) }, .direct)
  }

  @Test("a relay makes up for smaller requests and for one connection only, and for nothing else")
  func relayed() {
    var identity = Self.identity
    identity.export.flags.insert(.canMultiConn)
    let smaller = changed { $0.blockSizes = BlockSizes(minimum: 512, preferred: 512, maximumPayload: 4096) }
    #expect(throws: Never.self) { try identity.requireCompatible(smaller, .relay) }
    #expect(throws: Failure.self) { try identity.requireCompatible(smaller, .direct) }
    for change in [{ $0.size = 1 << 19 }, { $0.flags.insert(.readOnly) }, { $0.flags.remove(.sendTrim) }]
      as [(inout ExportInfo) -> Void]
    {
      #expect(throws: Failure.self) { try identity.requireCompatible(changed(change), .relay) }
    }
    let coarse = changed { $0.blockSizes = BlockSizes(minimum: 8192, preferred: 8192, maximumPayload: 1 << 20) }
    #expect(throws: Failure.self) { try identity.requireCompatible(coarse, .relay) }
  }

  @Test("anything else needs a change, and each difference is said")
  func incompatible() {
    let worse = changed { export in
      export.size = 1 << 19
      export.flags = [.hasFlags, .readOnly, .sendFlush]
      export.blockSizes = BlockSizes(minimum: 8192, preferred: 8192, maximumPayload: 1 << 19)
    }
    let problem = #expect(throws: Failure.self) { try Self.identity.requireCompatible(worse, .direct) }
    #expect(problem?.phase == .comparing && problem?.advice == .giveUp)
    #expect(
      problem?.message
        == "the export shrank from 1048576 to 524288 bytes; the export was writable and is read-only now; the server no "
        + "longer offers NBD_FLAG_SEND_TRIM; the server's minimum block is now 8192 bytes, above the device's 4096; "
        + "the server now takes 524288 bytes in a request, and before 1048576")
    #expect(
      problem?.hint
        == "the device can't go on with it: bring the export back as it was, or stop the attachment and start it again")
  }

  @Test("the record for the next process is read as it was written")
  func record() throws {
    var spec = AttachmentSpec(
      name: "data",
      servers: [
        Self.identity.server, try ServerURI(parsing: "nbds+unix://al@/x%20y?socket=/s&tls-type=psk"),
        try ServerURI(parsing: "nbd+vsock://2:99/"), try ServerURI(parsing: "nbd://[fe80::1%25eth0]:7/a"),
      ])
    spec.device = .index(7)
    spec.tls = TLSSpec()
    spec.requestTimeout = .milliseconds(1500)
    for device in [DeviceSelection.index(7), .anyFree] {
      spec.device = device
      let record = DeviceRecord(spec: spec, index: 7, interface: .netlink, identity: Self.identity)
      #expect(try JSONDecoder().decode(DeviceRecord.self, from: try JSONEncoder().encode(record)) == record)
    }
  }
}
