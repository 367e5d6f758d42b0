import AttachmentModel
import Testing

@testable import Supervision

@Suite("how a supervisor makes what runs what is declared", .requires("nbdkit"))
struct ReconcilingTests {
  @Test("what is declared is attached, and the log tells each step")
  func start() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "10M", in: lab.directory)
      await lab.supervisor.reconcile([try lab.spec("data", server.uri())])
      try await lab.wait(for: "data", .attached)
      let report = try #require(await lab.report("data"))
      #expect(report.device == "/dev/nbd0")
      #expect(report.size == 10 << 20)
      #expect(report.links == 1)
      #expect(lab.log(of: "data") == ["connecting", "attached: /dev/nbd0 is \(server.uri()), 10 MiB"])
    }
  }

  @Test("what has not changed is left alone")
  func keep() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri())
      await lab.supervisor.reconcile([data])
      try await lab.wait(for: "data", .attached)
      let before = await lab.report("data")
      let log = lab.log(of: "data")
      try await lab.settle([data], server.uri())
      #expect(await lab.report("data") == before)
      #expect(lab.log(of: "data") == log)
      #expect(lab.kernel.events == ["bind data", "bind last"])
    }
  }

  @Test("what has not changed but waits tries again at once")
  func retry() async throws {
    try await withLab { lab in
      let absent = "nbd+unix:///?socket=\(lab.directory.path)/server"
      var data = try lab.spec("data", absent)
      data.retry = RetryPolicy(initial: .seconds(3600), maximum: .seconds(3600))
      await lab.supervisor.reconcile([data])
      try await lab.wait(for: "data", .waiting)
      let server = try await Server("memory", "1M", in: lab.directory)
      await lab.supervisor.reconcile([data])
      try await lab.wait(for: "data", .attached)
      #expect(data.servers.map { "\($0)" } == [server.uri()])
    }
  }

  @Test("a change of the retry policy is taken over without touching the device")
  func update() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      var data = try lab.spec("data", server.uri())
      data.retry = RetryPolicy(initial: .seconds(3600), maximum: .seconds(3600))
      await lab.supervisor.reconcile([data])
      try await lab.wait(for: "data", .attached)
      let before = await lab.report("data")
      data.retry = RetryPolicy(initial: .milliseconds(1), maximum: .milliseconds(2))
      try await lab.settle([data], server.uri())
      #expect(await lab.report("data") == before)
      #expect(lab.kernel.events == ["bind data", "bind last"])

      // A link that is lost so soon waits for the back-off: with the old policy it would not come back today.
      lab.kernel.lose("data")
      try await eventually("data is bound again") { lab.kernel.events.count == 3 }
      try await lab.wait(for: "data", .attached)
    }
  }

  @Test("any other change lets the device go first, and then binds the new one")
  func replace() async throws {
    try await withLab { lab in
      let first = try await Server("memory", "1M", at: "one", in: lab.directory)
      let second = try await Server("memory", "2M", at: "two", in: lab.directory)
      await lab.supervisor.reconcile([try lab.spec("data", first.uri(), device: .index(4))])
      try await lab.wait(for: "data", .attached)
      await lab.supervisor.reconcile([try lab.spec("data", second.uri(), device: .index(4))])
      try await eventually("data has its new size") { await lab.report("data")?.size == 2 << 20 }
      #expect(lab.kernel.events == ["bind data", "release data", "bind data"])
      #expect(
        lab.log(of: "data") == [
          "connecting", "attached: /dev/nbd4 is \(first.uri()), 1 MiB", "detaching", "stopped",
          "connecting", "attached: /dev/nbd4 is \(second.uri()), 2 MiB",
        ])
    }
  }

  @Test("what is no longer declared is detached and forgotten")
  func stop() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      await lab.supervisor.reconcile([try lab.spec("data", server.uri()), try lab.spec("other", server.uri())])
      try await lab.wait(for: "data", .attached)
      try await lab.wait(for: "other", .attached)
      await lab.supervisor.reconcile([try lab.spec("other", server.uri())])
      try await lab.waitUntilGone("data")
      #expect(lab.kernel.events.last == "release data")
      #expect(await lab.report("other")?.state == .attached)
    }
  }

  @Test("a removal at once after the declaration leaves nothing that runs")
  func stopBeforeStart() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      for _ in 0..<50 {
        await lab.supervisor.reconcile([try lab.spec("data", server.uri())])
        await lab.supervisor.reconcile([])
        try await lab.waitUntilGone("data")
      }
      try await lab.settle([], server.uri())
      #expect(lab.kernel.boundCount == 1)
    }
  }

  @Test("a name that is declared again while it leaves starts when it has left, once, as declared last")
  func declaredAgainWhileLeaving() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: .index(1))
      await lab.supervisor.reconcile([data])
      try await lab.wait(for: "data", .attached)
      lab.kernel.holdOn(true)
      await lab.supervisor.reconcile([])
      try await lab.wait(for: "data", .detaching)
      for index in 2...4 {
        await lab.supervisor.reconcile([try lab.spec("data", server.uri(), device: .index(index))])
      }
      #expect(await lab.report("data")?.state == .detaching)
      lab.kernel.holdOn(false)
      try await eventually("data is attached as declared last") { await lab.report("data")?.device == "/dev/nbd4" }
      #expect(lab.kernel.events == ["bind data", "release data", "bind data"])
      await lab.supervisor.reconcile([])
      try await lab.waitUntilGone("data")
    }
  }

  @Test("a name that is declared again while it leaves, and then no more, does not come back")
  func notDeclaredAfterAll() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      await lab.supervisor.reconcile([try lab.spec("data", server.uri())])
      try await lab.wait(for: "data", .attached)
      lab.kernel.holdOn(true)
      await lab.supervisor.reconcile([])
      try await lab.wait(for: "data", .detaching)
      await lab.supervisor.reconcile([try lab.spec("data", server.uri(), device: .index(2))])
      await lab.supervisor.reconcile([])
      lab.kernel.holdOn(false)
      try await lab.waitUntilGone("data")
      try await lab.settle([], server.uri())
      #expect(lab.kernel.events == ["bind data", "release data", "bind last"])
    }
  }

  @Test("two attachments that swap their devices end up as declared")
  func swap() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      func declare(_ first: Int, _ second: Int) async throws {
        await lab.supervisor.reconcile([
          try lab.spec("one", server.uri(), device: .index(first)),
          try lab.spec("two", server.uri(), device: .index(second)),
        ])
        try await eventually("both have their devices") {
          let reports = await lab.supervisor.reports()
          return reports.map(\.state) == [.attached, .attached]
            && reports.map(\.device) == ["/dev/nbd\(first)", "/dev/nbd\(second)"]
        }
      }
      try await declare(1, 2)
      try await declare(2, 1)
      #expect(lab.kernel.boundCount == 2)
    }
  }
}
