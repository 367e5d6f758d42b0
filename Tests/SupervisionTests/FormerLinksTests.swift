import Attachment
import AttachmentModel
import FakeDriver
import ForgetfulServer
import LinuxKernel
import NBDProtocol
import Testing

@testable import Supervision

@Suite("links of one daemon on which a server still has writes, and the next daemon")
struct FormerLinksTests {
  private static let index = 5001

  @Test("a write that lands after the restart does not overwrite a newer one: nothing is sent before the old link ends")
  func lateWrite() async throws {
    try await withNetlinkLab { lab in
      let server = try ForgetfulServer(size: 1 << 20)
      server.behave { behaviour in
        behaviour.halfClose = .waits
        behaviour.treat = { $0.connection == 0 && $0.request.command == .write ? .hold : .serve }
      }
      let uri = try server.listen(onUnix: "\(lab.directory.path)/server")
      let spec = try lab.spec("data", "\(uri)", device: Self.index) { spec in
        spec.datapath = nil
        spec.connections = 1
      }
      let old = [UInt8](repeating: 1, count: 4096)
      let new = [UInt8](repeating: 2, count: 4096)
      let first = await lab.start([spec])
      try await lab.wait(for: "data", .attached, first)
      try driver(lab).send(.write, cookie: 1, at: 0, old)
      try await server.wait { $0.held == 1 }
      #expect(lab.keptOfRelays[Self.index]?.count == 1 && lab.kept.isEmpty)
      try await lab.handOver(first)
      try await eventually("the driver has noticed") { lab.driver.deadLinks(of: Self.index) == 1 }
      #expect(lab.keptOfRelays[Self.index]?.count == 1)

      // One of which the kernel asks nothing has nothing to wait for, and leaves to the next what it was left.
      let idle = await lab.start([spec])
      try await lab.wait(for: "data", .attached, idle)
      try await lab.handOver(idle)
      try await eventually("the driver has noticed") { lab.driver.linksUp(of: Self.index) == 0 }
      #expect(lab.keptOfRelays[Self.index]?.count == 1)

      let second = await lab.start([spec])
      try await lab.wait(for: "data", .attached, second)
      // As the kernel does: again what is unanswered, and then more.
      let driver = try driver(lab)
      try driver.send(.write, cookie: 1, at: 0, old)
      try driver.send(.write, cookie: 2, at: 0, new)
      try await eventually("the relay has both") {
        await second.supervisor.reports(withStatistics: true).first?.statistics?.queueDepth == 2
      }
      // What had been sent by then the server has taken when it has answered this.
      let other = DriverSocket(try server.connect())
      for _ in 0..<2 { _ = try other.read(at: 8192, count: 512) }
      #expect(server.facts.halfClosed == 1)
      #expect(server.facts.receivedByCommand[.write] == 1)
      server.finishHeld()
      for _ in 0..<2 { #expect(try driver.reply().error == nil) }
      #expect(try driver.read(at: 0, count: 4096) == new)
      try await eventually("the old link is not kept any more") { lab.keptOfRelays[Self.index]?.count == 1 }
      try await lab.handOver(second)
      #expect(lab.keptOfRelays.isEmpty)
    }
  }

  @Test("links of a device that is gone are ended, and not kept")
  func gone() async throws {
    try await withNetlinkLab { lab in
      let server = try ForgetfulServer(size: 1 << 20)
      lab.keepOfRelay(try server.connect(), of: Self.index)
      _ = await lab.start([])
      #expect(lab.keptOfRelays.isEmpty)
      try await server.wait { $0.closed == 1 }
    }
  }

  private func driver(_ lab: NetlinkSupervisionLab) throws -> DriverSocket {
    DriverSocket(try #require(lab.driver.socket(of: Self.index).flatMap { OpenFile.duplicating($0.number) }))
  }

  @Test("what the service manager keeps has a name of its own for each kind, and what is none of it is passed over")
  func names() {
    #expect(StoredFile.allCases.map { $0.name(7) } == ["nbd7", "nbd7.relay", "nbd7.log"])
    for kind in StoredFile.allCases {
      let parsed = StoredFile.parse(kind.name(12))
      #expect(parsed?.0 == kind && parsed?.index == 12)
    }
    for name in ["", "nbd", "nbd.log", "nbd-1", "nbd1.", "nbd1.else", "nbd1x", "stored", "nbd99999999999999999999"] {
      #expect(StoredFile.parse(name) == nil)
    }
  }
}
