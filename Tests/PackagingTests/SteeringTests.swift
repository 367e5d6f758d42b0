import Foundation
import Glibc
import Testing

@Suite("the programs, together", .enabled(if: getuid() == 0, "only root may change what the daemon does"))
struct SteeringTests {
  private let client = Program(name: "nbdattach", section: 1)

  @Test("a reload takes a sound configuration, and refuses one with errors and names them")
  func reload() throws {
    try withDaemon { daemon in
      #expect(try client.run("reload", "--socket=" + daemon.socket).status == 0)
      try daemon.configure("attachments: { absent: { uri: nbd+unix:///?socket=/nonexistent } }\n")
      #expect(try client.run("reload", "--socket=" + daemon.socket).status == 0)
      let status = try client.run("status", "--socket=" + daemon.socket)
      #expect(status.status == 1)
      #expect(status.output.contains("absent"))
      try daemon.configure("attachments: { absent: { url: nbd://x } }\n")
      #expect(try client.run("reload", "--socket=" + daemon.socket).status == 1)
      #expect(try client.run("status", "absent", "--socket=" + daemon.socket).output.contains("absent"))
    }
  }

  @Test("the shell is told the attachments' names, and nothing where there is no daemon")
  func completion() throws {
    // What the generated scripts run.
    func names(socket: String) throws -> [Substring] {
      try client.output(
        "---completion", "stop", "--", "positional@0", "4", "0", "nbdattach", "stop", "--socket", socket, ""
      ).split(separator: "\n")
    }
    try withDaemon { daemon in
      try daemon.configure("attachments: { my-data.2: { uri: nbd+unix:///?socket=/nonexistent } }\n")
      #expect(try client.run("reload", "--socket=" + daemon.socket).status == 0)
      #expect(try names(socket: daemon.socket) == ["my-data.2"])
    }
    #expect(try names(socket: "/nonexistent/control").isEmpty)
  }

  @Test("the signals that stop it end it well", arguments: [SIGTERM, SIGINT, SIGUSR1])
  func signals(signal: Int32) throws {
    try withDaemon { daemon in
      kill(daemon.process.processIdentifier, signal)
      daemon.process.waitUntilExit()
      #expect(daemon.process.terminationReason == .exit)
      #expect(daemon.process.terminationStatus == 0)
      #expect(!FileManager.default.fileExists(atPath: daemon.socket))
    }
  }

  private struct RunningDaemon {
    let process: Process
    let directory: String
    var socket: String { directory + "/control" }

    func configure(_ text: String) throws {
      try text.write(toFile: directory + "/attachments.d/a.yaml", atomically: true, encoding: .utf8)
    }
  }

  /// A daemon without attachments, at work, ended afterwards.
  private func withDaemon(_ body: (RunningDaemon) throws -> Void) throws {
    let files = FileManager.default
    let directory = files.temporaryDirectory.appending(path: UUID().uuidString).path
    try files.createDirectory(atPath: directory + "/attachments.d", withIntermediateDirectories: true)
    defer { try? files.removeItem(atPath: directory) }
    let process = Process()
    process.executableURL = Program(name: "nbdattachd", section: 8).executable
    process.arguments = ["--config", directory + "/attachments.d", "--socket", directory + "/control"]
    process.standardError = FileHandle.nullDevice
    let daemon = RunningDaemon(process: process, directory: directory)
    try process.run()
    defer {
      process.terminate()
      process.waitUntilExit()
    }
    // Until it answers; it has the rest of the test's time for that.
    while try client.run("status", "--socket=" + daemon.socket).status == 2 { usleep(20_000) }
    try body(daemon)
  }
}
