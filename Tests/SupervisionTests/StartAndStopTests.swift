import AttachmentModel
import Testing

@testable import Supervision

@Suite("the first tries and the end of a supervisor", .requires("nbdkit"))
struct StartAndStopTests {
  @Test("first tries are over when each has succeeded or failed")
  func firstTries() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      await lab.supervisor.reconcile([
        try lab.spec("attached", server.uri()), try lab.spec("absent", server.uri() + "-absent"),
      ])
      #expect(await lab.supervisor.firstTries(within: .seconds(30)) == [])
      #expect(await lab.report("attached")?.state == .attached)
      #expect(lab.log(of: "absent").count > 1)
    }
  }

  @Test("without attachments there is nothing to wait for")
  func nothingToTry() async throws {
    try await withLab { lab in #expect(await lab.supervisor.firstTries(within: .seconds(3600)) == []) }
  }

  @Test("a try that takes too long is named")
  func silentServer() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let silent = try SilentServer(in: lab.directory)
      await lab.supervisor.reconcile([
        try lab.spec("silent", silent.uri), try lab.spec("data", server.uri()), try lab.spec("mute", silent.uri),
      ])
      try await lab.wait(for: "data", .attached)
      #expect(await lab.supervisor.firstTries(within: .milliseconds(10)) == ["mute", "silent"])
    }
  }

  @Test("an attachment that is removed before its first try has ended is not waited for")
  func removedWhileTrying() async throws {
    try await withLab { lab in
      let silent = try SilentServer(in: lab.directory)
      await lab.supervisor.reconcile([try lab.spec("silent", silent.uri)])
      async let untried = lab.supervisor.firstTries(within: .seconds(3600))
      await lab.supervisor.reconcile([])
      #expect(await untried == [])
    }
  }

  @Test("at the end everything is detached, also what is in use, which is named")
  func stopAll() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let silent = try SilentServer(in: lab.directory)
      let mounted = try lab.spec("mounted", server.uri(), device: .index(2))
      let free = try lab.spec("free", server.uri(), device: .index(3))
      try lab.uses.mount(2, at: lab.directory.path)
      await lab.supervisor.reconcile([mounted, free, try lab.spec("silent", silent.uri)])
      try await lab.wait(for: "mounted", .attached)
      try await lab.wait(for: "free", .attached)
      #expect(await lab.supervisor.stopAll(timeout: .seconds(20)))
      #expect(await lab.supervisor.reports().map(\.state) == [.stopped, .stopped, .stopped])
      #expect(lab.kernel.boundCount == 0)
      #expect(
        lab.log(of: "mounted").contains(
          "/dev/nbd2 is mounted on \(lab.directory.path): it is written out and detached all the same, because the "
            + "classic kernel interface keeps no device without its daemon"))
      #expect(!lab.log(of: "free").contains { $0.contains("written out") })
    }
  }

  @Test("a device that was lost is not said to be in use: its number may be another program's")
  func lostBeforeTheEnd() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      var data = try lab.spec("data", server.uri(), device: .index(2))
      data.retry = RetryPolicy(initial: .seconds(3600), maximum: .seconds(3600))
      await lab.supervisor.reconcile([data])
      try await lab.wait(for: "data", .attached)
      lab.kernel.lose("data")
      try await lab.wait(for: "data", .waiting)
      try lab.uses.mount(2, at: "/elsewhere")
      #expect(await lab.supervisor.stopAll(timeout: .seconds(20)))
      #expect(!lab.log(of: "data").contains { $0.contains("/elsewhere") })
    }
  }

  @Test("once it stops nothing starts any more, be it declared anew or about to follow one that leaves")
  func nothingStarts() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let busy = try lab.spec("busy", server.uri(), device: .index(3))
      await lab.supervisor.reconcile([busy, try lab.spec("data", server.uri(), device: .index(1))])
      try await lab.wait(for: "data", .attached)
      try await lab.wait(for: "busy", .attached)
      lab.kernel.holdOn(true)
      await lab.supervisor.reconcile([busy, try lab.spec("data", server.uri(), device: .index(2))])
      try await lab.wait(for: "data", .detaching)

      // What is said of the use tells when the stop has begun.
      try lab.uses.mount(3, at: lab.directory.path)
      async let allEnded = lab.supervisor.stopAll(timeout: .seconds(20))
      try await eventually("the stop has begun") { lab.log(of: "busy").contains { $0.contains("written out") } }
      await lab.supervisor.reconcile([busy, try lab.spec("late", server.uri())])
      lab.kernel.holdOn(false)
      #expect(await allEnded)
      try await lab.waitUntilGone("data")
      #expect(await lab.supervisor.reports().map(\.name) == ["busy"])
      #expect(lab.kernel.events.filter { $0.hasPrefix("bind") }.count == 2)
      #expect(lab.kernel.boundCount == 0)
    }
  }

  @Test("a device that is never let go of does not keep the daemon from ending")
  func stuckDevice() async throws {
    try await withLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      await lab.supervisor.reconcile([try lab.spec("data", server.uri())])
      try await lab.wait(for: "data", .attached)
      lab.kernel.holdOn(true)
      #expect(await !lab.supervisor.stopAll(timeout: .milliseconds(20), margin: .milliseconds(20)))
      #expect(await lab.report("data")?.state == .detaching)
    }
  }
}
