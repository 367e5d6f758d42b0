import Attachment
import AttachmentModel
import FakeDriver
import LinuxKernel
import Testing

@testable import Supervision

@Suite("one daemon after another", .requires("nbdkit"))
struct AdoptionTests {
  @Test("an unchanged attachment is taken over with its links: nothing is said to the kernel, nor to the server")
  func unchanged() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      try await eventually("the link is kept") { lab.kept[5001]?.count == 1 }
      try await lab.handOver(first)
      let before = server.connections

      let second = await lab.start([data])
      try await lab.wait(for: "data", .attached, second)
      #expect(await second.supervisor.firstTries(within: .seconds(30)) == [])
      let report = try #require(await lab.report("data", second))
      #expect(report.device == "/dev/nbd5001" && report.links == 1 && report.losses == 0)
      #expect(report.size == 1 << 20 && report.kernelInterface == .netlink)
      #expect(lab.log(of: "data").contains("taken over: /dev/nbd5001, links up: 1 of 1"))
      #expect(lab.commands(of: 5001) == [.connect])
      #expect(server.connections == before)
    }
  }

  @Test("after a crash too, and a link that was lost meanwhile is replaced under the same device")
  func crash() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      try await eventually("the link is kept") { lab.kept[5001]?.count == 1 }
      try await lab.handOver(first)
      for link in lab.kept[5001] ?? [] { Socket.shutDown(link.number) }
      try await eventually("the driver knows") { lab.driver.linksUp(of: 5001) == 0 }

      let second = await lab.start([data])
      try await lab.wait(for: "data", .attached, second)
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure])
      #expect(lab.log(of: "data").contains("taken over: /dev/nbd5001, links up: 0 of 1"))
    }
  }

  @Test("a changed attachment is made anew, unless it is in use: then it goes on as it was")
  func changed() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let specs = try [("free", 5001), ("busy", 5002)].map { try lab.spec($0, server.uri(), device: $1) }
      let first = await lab.start(specs)
      for spec in specs { try await lab.wait(for: spec.name, .attached, first) }
      try await lab.handOver(first)
      try lab.mount([5002: "/srv"])

      let changed = specs.map { spec in
        var spec = spec
        spec.isReadOnly = true
        return spec
      }
      let second = await lab.start(changed)
      try await eventually("free is read-only", else: "\(lab.log(of: "free"))") {
        let report = await lab.report("free", second)
        return report?.isReadOnly == true && report?.state == .attached
      }
      #expect(lab.commands(of: 5001) == [.connect, .disconnect, .connect])
      #expect(lab.commands(of: 5002) == [.connect])
      #expect(await lab.report("busy", second)?.activity?.contains("changed in the configuration") == true)
      try lab.mount([:])
      try await eventually("busy is read-only") { await lab.report("busy", second)?.isReadOnly == true }
    }
  }

  @Test("what is no longer declared is detached, unless it is in use")
  func undeclared() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let specs = try [("free", 5001), ("busy", 5002)].map { try lab.spec($0, server.uri(), device: $1) }
      let first = await lab.start(specs)
      for spec in specs { try await lab.wait(for: spec.name, .attached, first) }
      try await lab.handOver(first)
      try lab.mount([5002: "/srv"])

      _ = await lab.start([])
      try await lab.waitUntilDetached(5001)
      #expect(lab.log(of: "busy").contains { $0.contains("mounted on /srv: kept as it was until that ends") })
      #expect(lab.driver.sysfs.backend(of: 5002) == "nbdattach:busy")
      try await eventually("only its record is left") { lab.store.records().keys.sorted() == ["busy"] }
      try lab.mount([:])
      try await lab.waitUntilDetached(5002)
      try await eventually("no record is left") { lab.store.records().isEmpty }
      #expect(lab.kept.isEmpty)
    }
  }

  @Test("a device of ours of which nothing at all is known is an orphan: detached, unless it is in use")
  func orphans() async throws {
    try await withNetlinkLab { lab in
      lab.driver.addConnected(5001, backend: "nbdattach:gone")
      lab.driver.addConnected(5002, backend: "nbdattach:used")
      lab.driver.addConnected(5003, backend: "somebody")
      try lab.mount([5002: "/srv"])
      _ = await lab.start([])
      try await lab.waitUntilDetached(5001)
      try await eventually("that is said") {
        lab.log(of: "gone").last == "/dev/nbd5001 was no longer configured, and is detached"
      }
      #expect(
        lab.log(of: "used") == [
          "/dev/nbd5002 is no longer configured, but mounted on /srv: left attached until that ends"
        ])
      try lab.mount([:])
      try await lab.waitUntilDetached(5002)
      #expect(lab.commands(of: 5003).isEmpty)
      try await eventually("that is said") { lab.log(of: "used").count == 2 }
    }
  }

  @Test("a daemon that is not the only one leaves what it does not know")
  func notOurs() async throws {
    try await withNetlinkLab { lab in
      lab.driver.addConnected(5001, backend: "nbdattach:gone")
      let process = await lab.start([], detachingOrphans: false)
      #expect(await process.supervisor.stopAll(timeout: .seconds(20)))
      #expect(lab.driver.requests.isEmpty)
    }
  }

  @Test("without its record, a declared attachment is taken over by what the kernel says of its device")
  func noRecord() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      try await eventually("the link is kept") { lab.kept[5001]?.count == 1 }
      try await lab.handOver(first)
      lab.store.remove("data")

      let second = await lab.start([data])
      try await lab.wait(for: "data", .attached, second)
      #expect(await lab.report("data", second)?.size == 1 << 20)
      // New links must still find the same export; what the server has never said is not held against it.
      try await second.supervisor.refresh("data")
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure])
    }
  }

  @Test("without its links' sockets it is asked for a read; where none is answered new links are made")
  func noSockets() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      try await eventually("the link is kept") { lab.kept[5001]?.count == 1 }
      try await lab.handOver(first)
      for link in lab.kept[5001] ?? [] { Socket.shutDown(link.number) }
      try await eventually("the driver knows") { lab.driver.linksUp(of: 5001) == 0 }

      try lab.driver.addNode(5001, isReadable: false)
      let second = await lab.start([data], keepingLinks: false)
      try await eventually("it has a new link", else: "\(lab.log(of: "data"))") {
        let report = await lab.report("data", second)
        return report?.state == .attached && report?.links == 1 && lab.commands(of: 5001) == [.connect, .reconfigure]
      }
    }
  }

  @Test("of two devices with one attachment's name, the one that was recorded is kept, the other is an orphan")
  func twins() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5002)
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      try await eventually("it is recorded") { lab.store.records()["data"]?.index == 5002 }
      try await lab.handOver(first)
      lab.driver.addConnected(5001, backend: "nbdattach:data")

      let second = await lab.start([data])
      try await lab.waitUntilDetached(5001)
      try await lab.wait(for: "data", .attached, second)
      #expect(await lab.report("data", second)?.device == "/dev/nbd5002")
      #expect(lab.commands(of: 5002) == [.connect])
    }
  }

  @Test("an attachment that an operator has stopped stays so over a restart")
  func stoppedByOperator() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      try await first.supervisor.stop("data", force: false)
      try await lab.handOver(first)

      let second = await lab.start([data])
      #expect(await second.supervisor.firstTries(within: .seconds(30)) == [])
      #expect(await lab.report("data", second)?.state == .stopped)
      #expect(lab.driver.sysfs.backend(of: 5001) == nil)
      try await second.supervisor.start("data", wait: true, timeout: .seconds(30))
      #expect(lab.store.stopped() == [])
    }
  }
}
