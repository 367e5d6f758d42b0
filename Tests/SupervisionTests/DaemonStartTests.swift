import AttachmentModel
import Control
import Glibc
import Testing

@Suite("the daemon starts")
struct DaemonStartTests {
  @Test("the manager is told READY once, after every attachment had its first try", .requires("nbdkit"))
  func ready() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let silent = try SilentServer(in: directory)
    try directory.configure("startup-timeout: 1h")
    // Its first try ends after this time and not before.
    try directory.declare([
      "silent: {uri: '\(silent.uri)', connect-timeout: 300ms}", "absent: {uri: '\(directory.absent())'}",
    ])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    let ready = try #require(manager.messages.first { $0.hasPrefix("READY=1\n") })
    #expect(ready.contains("\nSTATUS="))
    let status = try await daemon.status()
    #expect(status.attachments.map(\.name) == ["absent", "silent"])
    #expect(status.attachments.allSatisfy { $0.failure != nil })
    #expect(status.daemon.pid == Int(daemon.child.pid))
    #expect(try await daemon.end() == 0)
    #expect(manager.events == ["READY=1", "STOPPING=1"])
  }

  @Test("the manager is asked for the time that the first tries may take")
  func askedForTime() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    try directory.configure("startup-timeout: 70s")
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    #expect(manager.messages.contains("EXTEND_TIMEOUT_USEC=100000000"))
    #expect(manager.status == "no attachments configured")
    #expect(try await daemon.end() == 0)
  }

  @Test("without the kernel module every attachment says so", .requires("nbdkit"), .requiresNoDevices)
  func noModule() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let server = try await Server("memory", "1M", in: directory)
    try directory.declare(["data: {uri: '\(server.uri())'}", "named: {uri: '\(server.uri())', device: /dev/nbd3}"])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    #expect(manager.status == "2 failed (data, named)")
    for attachment in try await daemon.status().attachments {
      #expect(attachment.failure?.message == "there is no nbd device: the kernel module is not loaded")
      #expect(attachment.failure?.hint == "modprobe nbd")
      #expect(attachment.failure?.phase == .binding)
    }
    #expect(try await daemon.end() == 0)
  }

  @Test("a file that is wrong keeps no other attachment from being tried")
  func wrongFile() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["good: {uri: '\(directory.absent())'}"])
    try directory.declare(["bad: {urii: nbd://h}"], in: "conf/attachments.d/b.yaml")
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("good: waiting")
    let status = try await daemon.status()
    #expect(status.attachments.map(\.name) == ["good"])
    #expect(status.daemon.configurationError?.contains("b.yaml:2") == true)
    let warning = "warning: the configuration has errors: only what is right of it is in force, attachments: 1 of 2"
    #expect(daemon.log().contains(warning))
    #expect(try await daemon.end() == 0)
  }

  @Test("run by hand it tells on standard error what happens")
  func byHand() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["data: {uri: '\(directory.absent())', retry: {initial: 1min, maximum: 1min}}"])
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("data: waiting")
    #expect(try await daemon.end(SIGINT) == 0)
    #expect(
      daemon.log() == [
        "info: configuration read: 1 attachment in 1 file: no errors",
        "info: data: connecting",
        "warning: data: waiting: connect to \(directory.path)/absent: No such file or directory "
          + "(the server has not made its socket (yet), or the path is wrong)",
        "info: data: stopped",
        "info: the daemon ends",
      ])
  }

  @Test("a second daemon on the same socket ends with 1, says why, and leaves the first alone")
  func second() async throws {
    let directory = try TemporaryDirectory()
    let first = try await DaemonProcess.start(in: directory)
    try await first.waitForLog("configuration read")
    let second = try await DaemonProcess.start(in: directory, errors: "errors-2")
    #expect(try await second.child.ended() == 1)
    #expect(second.log("errors-2") == ["error: \(directory.path)/control: another daemon answers there"])
    #expect(try await first.status().daemon.pid == Int(first.child.pid))
    #expect(try await first.end() == 0)
  }

  @Test("a socket that a killed daemon left is taken over")
  func leftSocket() async throws {
    let directory = try TemporaryDirectory()
    let first = try await DaemonProcess.start(in: directory)
    try await first.waitForLog("configuration read")
    #expect(try await first.end(SIGKILL) == -SIGKILL)
    #expect(access("\(directory.path)/control", F_OK) == 0)
    let second = try await DaemonProcess.start(in: directory, errors: "errors-2")
    try await second.wait(forStatus: "the second daemon") { $0.daemon.pid == Int(second.child.pid) }
    #expect(try await second.end() == 0)
    #expect(access("\(directory.path)/control", F_OK) != 0)
  }

  @Test("without a place for its socket it works all the same, and warns")
  func noSocket() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["data: {uri: '\(directory.absent())'}"])
    try directory.write("", to: "control")
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("data: waiting")
    #expect(daemon.log().first?.hasPrefix("warning: \(directory.path)/control: exists and is no socket") == true)
    #expect(try await daemon.end() == 0)
    #expect(access("\(directory.path)/control", F_OK) == 0)
  }

  @Test("a manager that watches hears of it often enough, during the start too")
  func watchdog() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let silent = try SilentServer(in: directory)
    try directory.configure("startup-timeout: 1h")
    try directory.declare(["silent: {uri: '\(silent.uri)', connect-timeout: 1h}"])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager, watchdog: 100_000)
    try await eventually("it is heard of") { manager.messages.filter { $0 == "WATCHDOG=1" }.count > 3 }
    #expect(manager.events == [])
    #expect(try await daemon.end() == 0)
  }

  @Test("a manager that does not watch is not told")
  func noWatchdog() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    #expect(try await daemon.end() == 0)
    #expect(!manager.messages.contains("WATCHDOG=1"))
  }
}
