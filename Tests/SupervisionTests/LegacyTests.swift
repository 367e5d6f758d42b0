import Attachment
import AttachmentModel
import FakeDriver
import ForgetfulServer
import Glibc
import LinuxKernel
import NBDProtocol
import Relay
import Testing

@testable import Supervision

@Suite("what one daemon has acknowledged, and the next must make sure of")
struct LegacyTests {
  private static let index = 5001
  private static let block = [UInt8](repeating: 0x5a, count: 4096)

  /// A daemon with one device over a server that forgets.
  private struct Scene {
    let lab: NetlinkSupervisionLab
    let server: ForgetfulServer
    let spec: AttachmentSpec

    init(_ lab: NetlinkSupervisionLab) throws {
      self.lab = lab
      server = try ForgetfulServer(size: 1 << 20)
      let uri = try server.listen(onUnix: "\(lab.directory.path)/server")
      spec = try lab.spec("data", "\(uri)", device: index) { spec in
        spec.datapath = nil
        spec.connections = 1
      }
    }

    func start(_ state: AttachmentReport.State) async throws -> NetlinkSupervisionLab.Process {
      let process = await lab.start([spec])
      try await lab.wait(for: "data", state, process)
      return process
    }

    func handOver(_ process: NetlinkSupervisionLab.Process) async throws {
      try await lab.handOver(process)
      try await eventually("the driver has noticed") { lab.driver.deadLinks(of: index) == 1 }
    }

    /// The first daemon has acknowledged a block, its server is gone with it, and the daemon too.
    func outage() async throws {
      let first = try await start(.attached)
      #expect(try driver().ask(.write, at: 8192, block) == nil)
      server.crash()
      try await lab.wait(for: "data", .reconnecting, first)
      try await handOver(first)
    }

    func driver() throws -> DriverSocket {
      DriverSocket(try #require(lab.driver.socket(of: index).flatMap { OpenFile.duplicating($0.number) }))
    }

    var legacy: UInt64? { lab.store.records()["data"]?.legacy }
    var says: [String] { lab.log(of: "data") }
  }

  private func withScene(_ body: (Scene) async throws -> Void) async throws {
    try await withNetlinkLab { lab in try await body(Scene(lab)) }
  }

  @Test("handed over in an outage, and once more: the third daemon sends it to the server that has forgotten it")
  func outage() async throws {
    try await withScene { scene in
      try await scene.outage()
      let legacy = try #require(scene.legacy)
      #expect(scene.lab.legacies.count == 1)
      #expect(!scene.says.contains { $0.contains("not flushed") })

      let second = try await scene.start(.reconnecting)
      #expect(
        scene.says.contains(
          "taken over: /dev/nbd5001, its I/O waits until a server is reached, which gets 4 KiB of acknowledged writes "
            + "again"))
      try await scene.handOver(second)
      #expect(scene.legacy == legacy && scene.lab.legacies.count == 1)

      try scene.server.restart()
      let third = try await scene.start(.attached)
      let driver = try scene.driver()
      #expect(try driver.read(at: 8192, count: 4096) == Self.block)
      try await eventually("nothing is kept any more") { scene.lab.legacies.isEmpty && scene.legacy == nil }
      #expect(try driver.ask(.flush) == nil)
      #expect(Array(scene.server.durable[8192..<12288]) == Self.block)
      try await scene.handOver(third)
      #expect(scene.lab.legacies.isEmpty && scene.legacy == nil)
    }
  }

  @Test("what was handed over is never sent again once newer writes were acknowledged, however its daemon ends")
  func stale() async throws {
    try await withScene { scene in
      try await scene.outage()
      // As the service manager has it, whatever it is told afterwards.
      let kept = try #require(scene.lab.legacies[Self.index])
      let record = try #require(scene.lab.store.records()["data"])
      try scene.server.restart()
      let second = try await scene.start(.attached)
      #expect(try scene.driver().ask(.write, at: 8192, [UInt8](repeating: 7, count: 4096)) == nil)
      #expect(try scene.driver().ask(.flush) == nil)
      try await scene.handOver(second)
      scene.lab.setLegacy(kept, of: Self.index)
      try scene.lab.store.save(record)
      _ = try await scene.start(.attached)
      #expect(try scene.driver().read(at: 8192, count: 1) == [7])
      #expect(try scene.driver().ask(.flush) == nil)
    }
  }

  @Test("lost data, of which the kernel has not heard, is told by the next daemon; status shows it until acknowledged")
  func owed() async throws {
    try await withScene { scene in
      let first = try await scene.start(.attached)
      #expect(try scene.driver().ask(.write, at: 8192, Self.block) == nil)
      scene.server.behave { $0.refuse(.write, in: 8192..<12288, with: .noSpace) }
      scene.server.crash()
      try scene.server.restart()
      try await eventually("the loss is seen") { await scene.lab.report("data", first)?.dataLossCount == 1 }
      try await scene.lab.wait(for: "data", .attached, first)
      try await scene.handOver(first)
      #expect(scene.legacy != nil)

      let second = try await scene.start(.attached)
      let report = try #require(await scene.lab.report("data", second))
      #expect(report.dataLossCount == 1 && report.dataLosses.map(\.offset) == [8192])
      #expect(try scene.driver().ask(.flush) == .inputOutput)
      #expect(try scene.driver().ask(.flush) == nil)
      try await second.supervisor.acknowledge("data")
      try await eventually("it is acknowledged") { await scene.lab.report("data", second)?.dataLossCount == 0 }
      try await scene.handOver(second)

      let third = try await scene.start(.attached)
      #expect(await scene.lab.report("data", third)?.dataLossCount == 0)
      #expect(try scene.driver().ask(.flush) == nil)
    }
  }

  enum Damage: CaseIterable { case missing, garbage, another, ofAnotherDevice }

  private func file(_ damage: Damage) throws -> OpenFile? {
    switch damage {
    case .missing: return nil
    case .another: return try Legacy.ofErrors(of: "nbdattach:data").file
    case .ofAnotherDevice: return try Legacy.ofErrors(of: "nbdattach:other").file
    case .garbage:
      let memory = try MemoryFile(named: "test")
      try Self.block.withUnsafeBytes { try memory.append($0) }
      try memory.seal()
      return memory.file
    }
  }

  @Test("what is missing, damaged or another's is said, and the next flush fails, once", arguments: Damage.allCases)
  func damaged(damage: Damage) async throws {
    try await withScene { scene in
      try await scene.outage()
      scene.lab.setLegacy(try file(damage), of: Self.index)
      let second = try await scene.start(.reconnecting)
      #expect(scene.says.contains { $0.hasPrefix("what the former process has left of it can't be sent again (it ") })
      // Not forgotten by one more hand-over.
      try await scene.handOver(second)
      try scene.server.restart()
      _ = try await scene.start(.attached)
      let driver = try scene.driver()
      #expect(try driver.ask(.flush) == .inputOutput)
      #expect(try driver.ask(.flush) == nil)
    }
  }

  @Test("without a service manager it is said that what is not flushed is left behind, and nothing is missed later")
  func unkept() async throws {
    try await withScene { scene in
      scene.lab.keepNoLegacies()
      try await scene.outage()
      let lines = scene.says.filter { $0.contains("acknowledged and not flushed") }
      #expect(lines == ["let go with 4 KiB that were acknowledged and not flushed: lost if the server's host crashed"])
      #expect(scene.legacy == nil)
      try scene.server.restart()
      _ = try await scene.start(.attached)
      #expect(try scene.driver().ask(.flush) == nil)
      #expect(!scene.says.contains { $0.contains("can't be sent again") })
    }
  }

  @Test("a stop lets all go that is kept: said, where its device stays in the kernel")
  func stopInUse() async throws {
    try await withScene { scene in
      try await scene.outage()
      let second = try await scene.start(.reconnecting)
      try scene.lab.mount([Self.index: "/srv"])
      #expect(await second.supervisor.stopAll(timeout: .seconds(10)))
      #expect(scene.says.contains { $0.hasPrefix("let go with 4 KiB that were acknowledged and not flushed") })
      #expect(scene.legacy == nil)
    }
  }

  @Test("a device that has gone meanwhile: how much could not be passed on is said, and nothing is kept")
  func gone() async throws {
    try await withScene { scene in
      try await scene.outage()
      try await scene.lab.disconnect(Self.index)
      let second = await scene.lab.start([scene.spec])
      #expect(
        scene.lab.log(of: "/dev/nbd5001") == [
          "4 KiB of acknowledged writes could not be passed on, because no attachment has the device any more"
        ])
      #expect(scene.lab.legacies.isEmpty)
      withExtendedLifetime(second) {}
    }
  }
}
