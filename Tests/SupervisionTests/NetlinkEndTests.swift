import Attachment
import AttachmentModel
import Control
import FakeDriver
import LinuxKernel
import Testing

@testable import Supervision

@Suite("the end of a daemon whose devices can stay", .requires("nbdkit"))
struct NetlinkEndTests {
  @Test("a stop detaches what is free, and leaves what is in use attached, and says so")
  func stopAll() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let specs = try [("free", 5001), ("busy", 5002)].map { try lab.spec($0, server.uri(), device: $1) }
      let process = await lab.start(specs)
      for spec in specs { try await lab.wait(for: spec.name, .attached, process) }
      try lab.mount([5002: "/srv"])
      #expect(await process.supervisor.stopAll(timeout: .seconds(20)))
      #expect(lab.commands(of: 5001) == [.connect, .disconnect])
      #expect(lab.commands(of: 5002) == [.connect])
      #expect(lab.driver.linksUp(of: 5002) == 1)
      #expect(lab.log(of: "busy").contains("/dev/nbd5002 is mounted on /srv: it is left attached"))
      #expect(await process.supervisor.reports().map(\.state) == [.stopped, .stopped])
      // The next start finds it.
      #expect(lab.store.records()["busy"]?.index == 5002)
      #expect(lab.kept[5002]?.count == 1)
    }
  }

  @Test("what is in use stays also while its server is gone, or has come back as another")
  func stopInTrouble() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let process = await lab.start([data])
      try await lab.wait(for: "data", .attached, process)
      server.end()
      try await lab.wait(for: "data", .reconnecting, process)
      let smaller = try await Server("memory", "512K", in: lab.directory)
      try await lab.wait(for: "data", .failed, process)
      try lab.mount([5001: "/srv"])
      await #expect(throws: ActionError.inUse(name: "data", uses: ["mounted on /srv"])) {
        try await process.supervisor.stop("data", force: false)
      }
      #expect(await process.supervisor.stopAll(timeout: .seconds(20)))
      #expect(!lab.commands(of: 5001).contains(.disconnect))
      withExtendedLifetime(smaller) {}
    }
  }

  @Test("a hand-over leaves every device, used or not, and what waits for its server too")
  func handOverAll() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let absent = try lab.spec("absent", server.uri() + "-absent", device: 5003)
      let specs = try [("a", 5001), ("b", 5002)].map { try lab.spec($0, server.uri(), device: $1) }
      let process = await lab.start(specs + [absent])
      for spec in specs { try await lab.wait(for: spec.name, .attached, process) }
      try lab.mount([5001: "/srv"])
      try await lab.handOver(process)
      #expect(lab.driver.requests.map(\.command) == [.connect, .connect])
      #expect(lab.driver.linksUp(of: 5001) == 1 && lab.driver.linksUp(of: 5002) == 1)
      #expect(!lab.log(of: "a").contains { $0.contains("left attached") })
      #expect(await process.supervisor.reports().allSatisfy { $0.state == .stopped })
    }
  }

  @Test("classic devices can't be handed over: they are written out and detached")
  func classicHandOver() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      await lab.supervisor.reconcile([try lab.spec("data", server.uri(), device: .index(2))])
      try await lab.wait(for: "data", .attached)
      try lab.uses.mount(2, at: lab.directory.path)
      #expect(await lab.supervisor.handOverAll(timeout: .seconds(20)))
      #expect(lab.kernel.events == ["bind data", "release data"])
      #expect(lab.log(of: "data").contains { $0.contains("detached all the same") })
    }
  }

  @Test("when the system ends, nobody waits longer than the limit for a server that is gone")
  func endHolding() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", at: "server", in: lab.directory)
      let other = try await Server("memory", "1M", at: "other", in: lab.directory)
      let held = try lab.spec("held", server.uri(), device: 5001)
      let fine = try lab.spec("fine", other.uri(), device: 5002)
      let process = await lab.start([held, fine])
      try await lab.wait(for: "held", .attached, process)
      try await lab.wait(for: "fine", .attached, process)
      server.end()
      try await lab.wait(for: "held", .reconnecting, process)
      // Mounted or not: it is the end of the system.
      try lab.mount([5001: "/srv"])
      await process.supervisor.endHolding(after: .milliseconds(100))
      await process.supervisor.endHolding(after: .milliseconds(100))
      try await lab.waitUntilDetached(5001)
      #expect(lab.log(of: "held").contains { $0.contains("I/O that waits for it fails now") })
      #expect(lab.commands(of: 5002) == [.connect])
      // And those that lose theirs later.
      other.end()
      try await lab.waitUntilDetached(5002)
    }
  }
}
