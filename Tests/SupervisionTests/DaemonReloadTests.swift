import AttachmentModel
import Control
import Glibc
import Testing

@Suite("the daemon reads its configuration again")
struct DaemonReloadTests {
  @Test("a reload is told with its time and its end, and adds and removes what has changed")
  func reload() async throws {
    let (directory, manager) = try prepare("one", "two")
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    let since = try await daemon.status().attachments.map(\.since)
    #expect(since.count == 2)

    try declare("two", "three", in: directory)
    daemon.child.signal(SIGHUP)
    try await manager.wait(for: ["READY=1"] + reloaded)
    try await daemon.wait(forStatus: "two and three") { $0.attachments.map(\.name) == ["three", "two"] }
    #expect(try await daemon.end() == 0)
    #expect(manager.events == ["READY=1"] + reloaded + ["STOPPING=1"])
    #expect(manager.messages.contains { $0.hasPrefix("RELOADING=1\nMONOTONIC_USEC=") })
  }

  @Test("what waits tries again with a reload that changes nothing, and its worker stays the same")
  func unchanged() async throws {
    let directory = try TemporaryDirectory()
    try declare("data", in: directory)
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("data: waiting")
    daemon.child.signal(SIGHUP)
    // Another worker would count its tries from 1.
    try await daemon.wait(forStatus: "a second try") { $0.attachments.first?.attempts == 2 }
    #expect(!daemon.log().contains("info: data: stopped"))
    #expect(try await daemon.end() == 0)
  }

  @Test("a wrong file leaves everything as it was and says so, and a right one clears it")
  func wrongFile() async throws {
    let (directory, manager) = try prepare("data")
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    let loaded = try await daemon.status().daemon.configurationLoaded
    #expect(loaded != nil)

    try directory.write("attachments: {new: {uri: 'nbd://h'}, data: [}\n", to: "conf/attachments.d/a.yaml")
    daemon.child.signal(SIGHUP)
    try await manager.wait(for: ["READY=1"] + reloaded)
    try await manager.wait(forStatus: "the error") { $0.hasSuffix("; the configuration has errors") }
    let status = try await daemon.status()
    #expect(status.attachments.map(\.name) == ["data"])
    #expect(status.daemon.configurationError?.contains("attachments.d/a.yaml:1:") == true)
    #expect(status.daemon.configurationLoaded == loaded)

    try declare("data", "new", in: directory)
    daemon.child.signal(SIGHUP)
    try await manager.wait(for: ["READY=1"] + reloaded + reloaded)
    try await daemon.wait(forStatus: "both, and no error") {
      $0.attachments.map(\.name) == ["data", "new"] && $0.daemon.configurationError == nil
    }
    #expect(manager.status?.contains("errors") == false)
    #expect(try await daemon.end() == 0)
  }

  @Test("a wrong file is told in the log, with its place and what stays in force")
  func wrongFileLog() async throws {
    let directory = try TemporaryDirectory()
    try declare("data", in: directory)
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("data: waiting")
    try directory.declare(["data: {urii: nbd://h}"])
    daemon.child.signal(SIGHUP)
    try await daemon.waitForLog("the one in force stays as it is (1 attachment in 1 file: 2 errors)")
    #expect(daemon.log().contains { $0.contains("a.yaml:2:10: error: unknown key `urii` (did you mean `uri`?)") })
    #expect(try await daemon.end() == 0)
  }

  @Test("a reload that is asked for during the start comes after it")
  func duringStart() async throws {
    let (directory, manager) = try prepare()
    let silent = try SilentServer(in: directory)
    try directory.configure("startup-timeout: 1h")
    try directory.declare(["silent: {uri: '\(silent.uri)', connect-timeout: 1s}"])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await daemon.wait(forStatus: "the try") { $0.attachments.first?.state == .connecting }
    try declare("data", in: directory)
    daemon.child.signal(SIGHUP)
    try await manager.wait(for: ["READY=1"] + reloaded)
    try await daemon.wait(forStatus: "the new configuration") { $0.attachments.map(\.name) == ["data"] }
    #expect(try await daemon.end() == 0)
  }

  @Test("many reloads at once come to an end, with the last configuration in force")
  func storm() async throws {
    let (directory, manager) = try prepare("data")
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    for round in 0..<50 {
      try declare("data", "round\(round)", in: directory)
      daemon.child.signal(SIGHUP)
    }
    try await daemon.wait(forStatus: "the last round") { $0.attachments.map(\.name) == ["data", "round49"] }
    #expect(try await daemon.end() == 0)
    let reloads = manager.events.filter { $0 == "RELOADING=1" }.count
    #expect(reloads > 0)
    #expect(manager.events == ["READY=1"] + Array(repeating: reloaded, count: reloads).joined() + ["STOPPING=1"])
  }

  private let reloaded = ["RELOADING=1", "MONOTONIC_USEC", "READY=1"]

  private func prepare(_ names: String...) throws -> (TemporaryDirectory, NotifySocket) {
    let directory = try TemporaryDirectory()
    try declare(names, in: directory)
    return (directory, try NotifySocket("\(directory.path)/notify"))
  }

  private func declare(_ names: String..., in directory: TemporaryDirectory) throws {
    try declare(names, in: directory)
  }

  /// Attachments without a server, whose second try does not come by itself.
  private func declare(_ names: [String], in directory: TemporaryDirectory) throws {
    try directory.declare(
      names.map { "\($0): {uri: '\(directory.absent())', retry: {initial: 30min, maximum: 30min}}" })
  }
}
