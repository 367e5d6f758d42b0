import AttachmentModel
import Testing

@testable import Supervision

@Suite("devices that are in use", .requires("nbdkit"))
struct DeferralTests {
  @Test("a removed attachment that is mounted is kept until it is unmounted, and says so")
  func removed() async throws {
    try await withLab { lab in
      let server = try await attach(lab)
      try lab.uses.mount(7, at: "/srv/my\\040data")
      await lab.supervisor.reconcile([])
      let report = try #require(await lab.report("data"))
      #expect(report.state == .attached)
      #expect(report.activity == "removed from the configuration, and kept while mounted on /srv/my data")
      #expect(
        lab.log(of: "data").last
          == "is no longer configured, but /dev/nbd7 is mounted on /srv/my data: kept as it was until that ends")
      try await lab.settle([], server.uri())
      #expect(lab.kernel.events == ["bind data", "bind last"])

      try lab.uses.unmount(7)
      try await lab.waitUntilGone("data")
      #expect(lab.kernel.events.last == "release data")
    }
  }

  @Test("a changed attachment that is swapped on goes on as it was, and changes when that ends")
  func changed() async throws {
    try await withLab { lab in
      let server = try await attach(lab)
      try lab.uses.swap(on: [7])
      await lab.supervisor.reconcile([try lab.spec("data", server.uri(), device: .index(3))])
      #expect(await lab.report("data")?.device == "/dev/nbd7")
      #expect(
        await lab.report("data")?.activity
          == "changed in the configuration, and kept while swap on /dev/nbd7")

      // What counts in the end is what was declared last.
      await lab.supervisor.reconcile([try lab.spec("data", server.uri(), device: .index(5))])
      try lab.uses.swap(on: [])
      try await eventually("data has its new device") { await lab.report("data")?.device == "/dev/nbd5" }
      #expect(lab.kernel.events == ["bind data", "release data", "bind data"])
      #expect(await lab.report("data")?.activity == nil)
    }
  }

  @Test("an attachment that is declared again while it is kept is not touched when its use ends")
  func declaredAgain() async throws {
    try await withLab { lab in
      let server = try await attach(lab)
      try lab.uses.mount(7, at: "/srv")
      await lab.supervisor.reconcile([])
      #expect(await lab.report("data")?.activity != nil)
      let data = try lab.spec("data", server.uri(), device: .index(7))
      await lab.supervisor.reconcile([data])
      #expect(await lab.report("data")?.activity == nil)
      try lab.uses.unmount(7)
      try await lab.settle([data], server.uri())
      #expect(lab.kernel.events == ["bind data", "bind last"])
    }
  }

  @Test("a kept attachment whose link is lost goes, because nothing is left to protect")
  func lostWhileKept() async throws {
    try await withLab { lab in
      _ = try await attach(lab)
      try lab.uses.mount(7, at: "/srv")
      await lab.supervisor.reconcile([])
      #expect(await lab.report("data")?.state == .attached)
      lab.kernel.lose("data")
      try await lab.waitUntilGone("data")
    }
  }

  @Test("a use of another device keeps nothing")
  func otherDevice() async throws {
    try await withLab { lab in
      _ = try await attach(lab)
      try lab.uses.mount(6, at: "/srv")
      await lab.supervisor.reconcile([])
      try await lab.waitUntilGone("data")
    }
  }

  @Test("each change of what keeps it is told once")
  func toldOnce() async throws {
    try await withLab { lab in
      let server = try await attach(lab)
      try lab.uses.mount(7, at: "/one")
      await lab.supervisor.reconcile([])
      try lab.uses.mount(7, at: "/two")
      try await eventually("the log names the second mount") { lab.log(of: "data").last?.contains("/two") == true }
      try await lab.settle([], server.uri())
      #expect(lab.log(of: "data").filter { $0.contains("is no longer configured") }.count == 2)
    }
  }

  /// One attachment `data` on /dev/nbd7.
  private func attach(_ lab: SupervisionLab) async throws -> Server {
    let server = try await Server("memory", "1M", in: lab.directory)
    await lab.supervisor.reconcile([try lab.spec("data", server.uri(), device: .index(7))])
    try await lab.wait(for: "data", .attached)
    return server
  }
}
