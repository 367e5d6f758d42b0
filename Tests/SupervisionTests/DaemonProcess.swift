import Control
import Foundation
import Glibc
import LinuxKernel
import Testing

/// The daemon's own program at work, with its files in a directory of its own; it ends with its owner.
final class DaemonProcess: Sendable {
  let directory: TemporaryDirectory
  let child: ChildProcess

  private init(_ directory: TemporaryDirectory, _ child: ChildProcess) {
    self.directory = directory
    self.child = child
  }

  /// - Parameters:
  ///   - manager: told what systemd would be told. With one the log goes to the journal, without to `errors`.
  ///   - watchdog: how often the manager wants to hear of it, in microseconds.
  static func start(
    in directory: TemporaryDirectory, manager: NotifySocket? = nil, watchdog: Int? = nil, errors: String = "errors"
  ) async throws -> DaemonProcess {
    try FileManager.default.createDirectory(
      atPath: "\(directory.path)/conf/attachments.d", withIntermediateDirectories: true)
    var variables: [String: String] = [:]
    if let manager { variables["NOTIFY_SOCKET"] = manager.path }
    if let watchdog { variables["WATCHDOG_USEC"] = "\(watchdog)" }
    let child = try await ChildProcess.start(
      built("nbdattachd"),
      ["--config", "\(directory.path)/conf", "--socket", "\(directory.path)/control"],
      variables: variables, output: "\(directory.path)/output", errors: "\(directory.path)/\(errors)")
    return DaemonProcess(directory, child)
  }

  /// The log's lines, where there is no manager.
  func log(_ file: String = "errors") -> [String] {
    let text = (try? text(of: "\(directory.path)/\(file)")) ?? ""
    // Whether the tests may have what the service has is the machine's matter.
    return text.split(separator: "\n").map(String.init).filter { !$0.contains("I/O may get stuck") }
  }

  func waitForLog(_ line: String) async throws {
    try await eventually("the log has \"\(line)\"", else: log().joined(separator: "\n")) {
      self.log().contains { $0.contains(line) }
    }
  }

  /// Asks over the control socket, as `nbdattach status` does.
  func status() async throws -> StatusDocument {
    let outcome = try await command("status", "--json")
    return try JSONDecoder().decode(StatusDocument.self, from: Data(outcome.output.utf8))
  }

  /// Returns when an answer over the control socket is as wanted.
  func wait(forStatus what: String, _ condition: (StatusDocument) -> Bool) async throws {
    try await eventually("the status shows \(what)", else: log().joined(separator: "\n")) {
      guard let status = try? await self.status() else { return false }
      return condition(status)
    }
  }

  /// `nbdattach COMMAND ARGUMENT...` with this daemon's socket.
  func command(_ words: String...) async throws -> Outcome {
    try await run("nbdattach", words + ["--socket", "\(directory.path)/control"])
  }

  /// Sends the signal and waits for the end; the exit status.
  func end(_ signal: Int32 = SIGTERM) async throws -> Int32 {
    child.signal(signal)
    return try await child.ended()
  }
}

extension TemporaryDirectory {
  /// Writes `attachments:` with these lines, `NAME: {uri: …}`, into a file of the daemon's configuration.
  func declare(_ attachments: [String], in file: String = "conf/attachments.d/a.yaml") throws {
    let lines = attachments.map { "  \($0)\n" }
    try write("attachments:\(lines.isEmpty ? " {}" : "")\n" + lines.joined(), to: file)
  }

  /// Writes the daemon's own settings.
  func configure(_ lines: String...) throws {
    try write(lines.map { $0 + "\n" }.joined(), to: "conf/nbdattachd.yaml")
  }

  /// A URI of a server that is not there.
  func absent(_ name: String = "absent") -> String { "nbd+unix:///?socket=\(path)/\(name)" }
}
