import Attachment
import AttachmentModel
import Control
import FakeDriver
import LinuxKernel
import Testing

@testable import Supervision

@Suite("what an operator asks of one attachment", .requires("nbdkit"))
struct OperatorTests {
  @Test("stopped it stays declared and shown, and over a reload; started it comes back, and is waited for")
  func stopAndStart() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let process = await lab.start([data])
      try await lab.wait(for: "data", .attached, process)
      try await process.supervisor.stop("data", force: false)
      #expect(lab.driver.sysfs.backend(of: 5001) == nil)
      #expect(lab.store.stopped() == ["data"])
      #expect(lab.store.records().isEmpty && lab.kept.isEmpty)
      #expect(await lab.report("data", process)?.state == .stopped)
      await process.supervisor.reconcile([data])
      try await process.supervisor.stop("data", force: false)
      #expect(await lab.report("data", process)?.state == .stopped)

      try await process.supervisor.start("data", wait: true, timeout: .seconds(30))
      #expect(await lab.report("data", process)?.state == .attached)
      #expect(lab.store.stopped() == [])
      // What runs is started already.
      try await process.supervisor.start("data", wait: true, timeout: .seconds(30))
      #expect(lab.commands(of: 5001) == [.connect, .disconnect, .connect])
    }
  }

  @Test("a device in use is not stopped, nor restarted, unless it is forced")
  func inUse() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let process = await lab.start([try lab.spec("data", server.uri(), device: 5001)])
      try await lab.wait(for: "data", .attached, process)
      try lab.mount([5001: "/srv"])
      let refusal = ActionError.inUse(name: "data", uses: ["mounted on /srv"])
      await #expect(throws: refusal) { try await process.supervisor.stop("data", force: false) }
      await #expect(throws: refusal) { try await process.supervisor.restart("data") }
      #expect(lab.store.stopped() == [])
      #expect(lab.commands(of: 5001) == [.connect])
      try await process.supervisor.stop("data", force: true)
      #expect(lab.commands(of: 5001) == [.connect, .disconnect])
    }
  }

  @Test("a restart makes the device anew, and is not remembered as a stop")
  func restart() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let process = await lab.start([try lab.spec("data", server.uri(), device: 5001)])
      try await lab.wait(for: "data", .attached, process)
      try await process.supervisor.restart("data")
      try await lab.wait(for: "data", .attached, process)
      #expect(lab.commands(of: 5001) == [.connect, .disconnect, .connect])
      #expect(lab.store.stopped() == [])
    }
  }

  @Test("a refresh makes new links and grows the device; what can't be is said, and the device goes on")
  func refresh() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let process = await lab.start([try lab.spec("data", server.uri(), device: 5001)])
      try await lab.wait(for: "data", .attached, process)
      let larger = try await Server("memory", "2M", replacing: server)
      try await process.supervisor.refresh("data")
      #expect(await lab.report("data", process)?.size == 2 << 20)
      #expect(lab.driver.sysfs.size(of: 5001) == 2 << 20)
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure, .reconfigure])

      let smaller = try await Server("memory", "1M", replacing: larger)
      let problem = await #expect(throws: ActionError.self) { try await process.supervisor.refresh("data") }
      guard case .failed("data", let message, _) = problem else {
        Issue.record("\(String(describing: problem))")
        return
      }
      #expect(message == "the export shrank from 2097152 to 1048576 bytes")
      #expect(await lab.report("data", process)?.state == .attached)
      #expect(lab.driver.linksUp(of: 5001) == 1)
      withExtendedLifetime((server, larger, smaller)) {}
    }
  }

  @Test("a reconnection makes new links under the device; what can't be is said, and the device goes on")
  func reconnect() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let process = await lab.start([try lab.spec("data", server.uri(), device: 5001)])
      try await lab.wait(for: "data", .attached, process)
      try await process.supervisor.reconnect("data")
      #expect(lab.commands(of: 5001) == [.connect, .reconfigure])
      #expect(lab.driver.linksUp(of: 5001) == 1)
      #expect(await lab.report("data", process)?.losses == 0)

      let smaller = try await Server("memory", "512K", replacing: server)
      await #expect(throws: ActionError.self) { try await process.supervisor.reconnect("data") }
      withExtendedLifetime(smaller) {}
      try await process.supervisor.stop("data", force: true)
      await #expect(
        throws: ActionError.failed(name: "data", message: "it is stopped", hint: "nbdattach start data")
      ) { try await process.supervisor.reconnect("data") }
    }
  }

  @Test("a start that waits ends when it can't succeed, when its time is up, and when somebody stops it meanwhile")
  func startInVain() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let wrong = try lab.spec("wrong", server.uri(), device: 5001) { $0.expectedSize = 7 }
      let silentServer = try SilentServer(in: lab.directory)
      let silent = try lab.spec("silent", silentServer.uri, device: 5002) { $0.connectTimeout = .seconds(3600) }
      let process = await lab.start([wrong, silent])
      try await lab.wait(for: "wrong", .failed, process)
      let failed = await #expect(throws: ActionError.self) {
        try await process.supervisor.start("wrong", wait: true, timeout: .seconds(30))
      }
      guard case .failed("wrong", let message, _) = failed else {
        Issue.record("\(String(describing: failed))")
        return
      }
      #expect(message.contains("7 are expected"))
      await #expect(throws: ActionError.timedOut(name: "silent", message: nil, hint: nil)) {
        try await process.supervisor.start("silent", wait: true, timeout: .milliseconds(20))
      }
      async let waiting: Void = process.supervisor.start("silent", wait: true, timeout: nil)
      try await eventually("somebody waits") { await !process.supervisor.attachmentWaiters.isEmpty }
      try await process.supervisor.stop("silent", force: false)
      do {
        try await waiting
        Issue.record("it is not attached")
      } catch {
        #expect(error as? ActionError == .failed(name: "silent", message: "it was stopped", hint: nil))
      }
    }
  }

  @Test("what was put right is tried before a start that waits says that it has failed")
  func startAfterRepair() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let process = await lab.start([try lab.spec("data", server.uri(), device: 5001) { $0.expectedSize = 2 << 20 }])
      try await lab.wait(for: "data", .failed, process)
      let right = try await Server("memory", "2M", replacing: server)
      try await process.supervisor.start("data", wait: true, timeout: .seconds(30))
      #expect(await lab.report("data", process)?.state == .attached)
      withExtendedLifetime(right) {}
    }
  }

  @Test("names that are not declared are refused; so is everything once the daemon stops")
  func refused() async throws {
    try await withNetlinkLab { lab in
      let process = await lab.start([])
      let unknown = ActionError.noSuchAttachment(name: "data")
      await #expect(throws: unknown) { try await process.supervisor.start("data", wait: false, timeout: nil) }
      await #expect(throws: unknown) { try await process.supervisor.stop("data", force: true) }
      await #expect(throws: unknown) { try await process.supervisor.restart("data") }
      await #expect(throws: unknown) { try await process.supervisor.reconnect("data") }
      await #expect(throws: unknown) { try await process.supervisor.refresh("data") }
      await #expect(throws: unknown) { try await process.supervisor.retry("data") }
      _ = await process.supervisor.stopAll(timeout: .seconds(1))
      await #expect(throws: ActionError.stopping) { try await process.supervisor.stop("data", force: true) }
    }
  }

  @Test("an attachment that is no longer declared is no longer stopped either")
  func undeclaredStop() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let data = try lab.spec("data", server.uri(), device: 5001)
      let process = await lab.start([data])
      try await lab.wait(for: "data", .attached, process)
      try await process.supervisor.stop("data", force: false)
      await process.supervisor.reconcile([])
      #expect(await lab.report("data", process) == nil)
      await process.supervisor.reconcile([data])
      try await lab.wait(for: "data", .attached, process)
    }
  }

  @Test("what is stopped can't be refreshed")
  func refreshStopped() async throws {
    try await withNetlinkLab { lab in
      let server = try await Server("memory", "1M", in: lab.directory)
      let process = await lab.start([try lab.spec("data", server.uri(), device: 5001)])
      try await lab.wait(for: "data", .attached, process)
      try await process.supervisor.stop("data", force: false)
      await #expect(
        throws: ActionError.failed(name: "data", message: "it is stopped", hint: "nbdattach start data")
      ) { try await process.supervisor.refresh("data") }
    }
  }
}
