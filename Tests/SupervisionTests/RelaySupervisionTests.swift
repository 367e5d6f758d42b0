import Attachment
import AttachmentModel
import Control
import FakeDriver
import Glibc
import LinuxKernel
import Testing

@testable import Supervision

@Suite("attachments with a relay, over daemons and configurations", .requires("nbdkit"))
struct RelaySupervisionTests {
  @Test("handed over, the kernel holds the device without a link, and the next daemon gives it one")
  func handOver() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001) { $0.datapath = nil }
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      #expect(lab.store.records()["data"]?.datapath == .relay)
      #expect(await lab.report("data", first)?.datapath == .relay)
      #expect(await first.supervisor.reports(withStatistics: true).first?.statistics != nil)
      #expect(await first.supervisor.handOverAll(timeout: .seconds(10)))
      #expect(lab.kept.isEmpty && lab.keptOfRelays.isEmpty)
      try await eventually("the driver has noticed") { lab.driver.deadLinks(of: 5001) == 1 }
      #expect(lab.log(of: "data").last == "left to the kernel, where the next start finds it")

      let second = await lab.start([data])
      try await lab.wait(for: "data", .attached, second)
      #expect(lab.log(of: "data").contains("taken over: /dev/nbd5001, its I/O waits until a server is reached"))
      #expect(lab.driver.linksUp(of: 5001) == 1)
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure])
    }
  }

  @Test("a device of a daemon that left no record is one with a relay, where a relay is declared")
  func withoutRecord() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001) { $0.datapath = nil }
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      #expect(await first.supervisor.handOverAll(timeout: .seconds(10)))
      lab.store.remove("data")
      try await eventually("the driver has noticed") { lab.driver.deadLinks(of: 5001) == 1 }
      let second = await lab.start([data])
      try await lab.wait(for: "data", .attached, second)
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure])
      #expect(await lab.report("data", second)?.datapath == .relay)
    }
  }

  @Test("what is declared with TLS while no daemon runs is never connected to in clear, nor left there without a word")
  func securedMeanwhile() async throws {
    try await withNetlinkLab { lab in
      let keys = "\(lab.directory.path)/keys"
      try lab.directory.write("alice:0123456789abcdef\n", to: "keys")
      #expect(chmod(keys, 0o600) == 0)
      // Whoever comes in clear is served too.
      let server = try await Server("--tls=on", "--tls-psk=\(keys)", "memory", "1M", in: lab.directory)
      var data = try lab.spec("data", server.uri(), device: 5001) { $0.datapath = nil }
      data.connections = 1
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      #expect(await lab.report("data", first)?.security == nil)
      #expect(await first.supervisor.handOverAll(timeout: .seconds(10)))
      try await eventually("the driver has noticed") { lab.driver.deadLinks(of: 5001) == 1 }
      let before = server.connections

      data.servers = [try ServerURI(parsing: server.uri().replacing("nbd+", with: "nbds+"))]
      data.tls = TLSSpec()
      data.tls?.pskFile = keys
      let second = await lab.start([data])
      try await lab.wait(for: "data", .attached, second)
      #expect(await lab.report("data", second)?.security != nil)
      #expect(server.connections == before + 1)
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure])

      // A reload without a server that has TLS: the links stay, and who looks can see it.
      let plain = try await Server("memory", "1M", replacing: server)
      data.tls?.verify = .none
      await second.supervisor.reconcile([data])
      try await eventually("the reason", else: "\(lab.log(of: "data"))") {
        await lab.report("data", second)?.renewalFailure?.message.hasPrefix("the server refused TLS") == true
      }
      #expect(await lab.report("data", second)?.state == .attached)
      let warning = "its links stay as they were declared before, because new ones can't be had: the server refused TLS"
      #expect(lab.log(of: "data").filter { $0.hasPrefix(warning) }.count == 1)
      withExtendedLifetime(plain) {}
    }
  }

  @Test("what is in use at a stop is named, and it is said that its I/O waits")
  func stopInUse() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let process = await lab.start([try lab.spec("data", server.uri(), device: 5001) { $0.datapath = nil }])
      try await lab.wait(for: "data", .attached, process)
      try lab.mount([5001: lab.directory.path])
      #expect(await process.supervisor.stopAll(timeout: .seconds(10)))
      let line = lab.log(of: "data").first { $0.contains("mounted on") }
      #expect(line?.hasSuffix("it is left attached, and its I/O waits until the daemon runs again") == true)
      #expect(lab.commands(of: 5001) == [.connect])
    }
  }

  @Test("a move is told, and kept to by the next daemon, until the configuration has other servers")
  func move() async throws {
    try await withNetlinkLab { lab in
      let other = try TemporaryDirectory()
      let (one, two) = (
        try await Server("memory", "1M", in: lab.directory), try await Server("memory", "1M", in: other)
      )
      var data = try lab.spec("data", one.uri(), device: 5001) { $0.datapath = nil }
      let first = await lab.start([data])
      try await lab.wait(for: "data", .attached, first)
      await #expect(throws: ActionError.self) { try await first.supervisor.move("data", to: "http://x") }
      await #expect(throws: ActionError.noSuchAttachment(name: "x")) {
        try await first.supervisor.move("x", to: two.uri())
      }
      try await first.supervisor.move("data", to: two.uri())
      try await eventually("the move is told") {
        lab.log(of: "data").contains("moved from \(one.uri()) to \(two.uri())")
      }
      #expect(lab.store.moves()["data"]?.declared == data.servers)
      // A reload with the same servers changes nothing.
      await first.supervisor.reconcile([data])
      #expect(await first.supervisor.handOverAll(timeout: .seconds(10)))
      try await eventually("the driver has noticed") { lab.driver.deadLinks(of: 5001) == 1 }

      let second = await lab.start([data])
      try await lab.wait(for: "data", .attached, second)
      #expect(await lab.report("data", second)?.server == two.uri())

      // The configuration follows: nothing is moved, and there is nothing to remember.
      data.servers = [try ServerURI(parsing: two.uri())]
      await second.supervisor.reconcile([data])
      #expect(lab.store.moves() == [:])
      #expect(await lab.report("data", second)?.server == two.uri())
      data.servers = [try ServerURI(parsing: one.uri())]
      await second.supervisor.reconcile([data])
      try await eventually("it is back") { await lab.report("data", second)?.server == one.uri() }
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure])
      #expect(await lab.report("data", second)?.losses == 0)
      withExtendedLifetime(other) {}
    }
  }
}
