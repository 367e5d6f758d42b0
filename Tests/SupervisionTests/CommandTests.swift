import Control
import Foundation
import Testing

@Suite("what the command says of a daemon, of files and of servers")
struct CommandTests {
  @Test("status: 1 where something is not attached, and why")
  func status() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["data: {uri: '\(directory.absent())', retry: {initial: 30min, maximum: 30min}}"])
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("data: waiting")

    let all = try await daemon.command("status")
    #expect(all.status == 1)
    #expect(all.output.hasPrefix("NAME"))
    #expect(all.output.contains("connecting: connect to \(directory.path)/absent: No such file or directory"))
    #expect(all.errors == "")

    let one = try await daemon.command("status", "data")
    #expect(one.status == 1)
    #expect(one.output.hasPrefix("data\n"))
    #expect(one.output.contains("attempts: 1 since the last success"))

    let json = try await daemon.command("status", "--json")
    #expect(json.status == 1)
    let document = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
    #expect(document?.keys.sorted() == ["attachments", "daemon"])

    let unknown = try await daemon.command("status", "nobody")
    #expect(unknown.status == 1)
    #expect(unknown.output == "")
    #expect(unknown.errors.contains("no attachment is called \"nobody\""))
    #expect(try await daemon.end() == 0)
  }

  @Test("status: 0 where nothing is to be attached, and what keeps it from being declared")
  func statusOfNothing() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["data: {uri: 7}"])
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("the configuration has errors")
    let outcome = try await daemon.command("status")
    #expect(outcome.status == 0)
    #expect(outcome.output.hasPrefix("No attachments are configured.\n\nThe configuration has errors: "))
    #expect(try await daemon.end() == 0)
  }

  @Test("status: 2 without a daemon, and 64 for wrong usage")
  func noDaemon() async throws {
    let directory = try TemporaryDirectory()
    let outcome = try await run("nbdattach", "status", "--socket", "\(directory.path)/control")
    #expect(outcome.status == 2)
    #expect(outcome.errors.contains("nbdattachd is not running"))
    #expect(outcome.errors.contains("systemctl start nbdattachd"))
    #expect(try await run("nbdattach", "status", "--jsno").status == 64)
    #expect(try await run("nbdattach", "stauts").status == 64)
    #expect(try await run("nbdattachd", "--no-such-option").status == 64)
  }

  @Test("check: 0 without errors, 1 with errors")
  func check() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["data: {uri: 'nbd://h/x'}"])
    let right = try await run("nbdattach", "check", "\(directory.path)/conf")
    #expect(right.status == 0)
    #expect(right.output == "1 attachment in 1 file: no errors\n")
    #expect(right.errors == "")

    try directory.declare(["data: {urii: 'nbd://h/x'}"])
    let wrong = try await run("nbdattach", "check", "\(directory.path)/conf")
    #expect(wrong.status == 1)
    #expect(wrong.errors.contains("conf/attachments.d/a.yaml:2:10: error: unknown key `urii`"))
    #expect(try await run("nbdattach", "check", "\(directory.path)/nothing").status == 1)
  }

  @Test("info: 0 for an export that is there, 1 for one that is not, 2 where nobody is", .requires("nbdkit"))
  func info() async throws {
    let directory = try TemporaryDirectory()
    let server = try await Server(
      "--filter=exportname", "memory", "1M", "exportname=right", "exportname-strict=true", in: directory)
    let right = try await run("nbdattach", "info", server.uri("right"))
    #expect(right.status == 0)
    #expect(right.output.contains("size: 1048576 bytes (1 MiB)"))

    let json = try await run("nbdattach", "info", "--json", server.uri("right"))
    #expect(json.status == 0)
    let document = try JSONSerialization.jsonObject(with: Data(json.output.utf8)) as? [String: Any]
    #expect(document?["size"] as? Int == 1 << 20)

    let wrong = try await run("nbdattach", "info", server.uri("wrong"))
    #expect(wrong.status == 1)
    #expect(wrong.output == "")
    #expect(wrong.errors.hasPrefix("nbdattach: "))

    let nobody = try await run("nbdattach", "info", directory.absent())
    #expect(nobody.status == 2)
    #expect(nobody.errors.contains("No such file or directory"))

    let silent = try SilentServer(in: directory)
    let patience = try await run("nbdattach", "info", "--timeout", "50ms", silent.uri)
    #expect(patience.status == 2)
    #expect(patience.errors.contains("no answer within 0.05 s"))

    #expect(try await run("nbdattach", "info", "http://h").status == 64)
    #expect(try await run("nbdattach", "info", "--timeout", "infinity", server.uri()).status == 64)
  }

  @Test("list: every export on a line of its own", .requires("nbdkit"))
  func list() async throws {
    let directory = try TemporaryDirectory()
    let server = try await Server(
      "--filter=exportname", "memory", "1M", "exportname=one", "exportname=two", "exportname-list=explicit",
      in: directory)
    let outcome = try await run("nbdattach", "list", server.uri())
    #expect(outcome.status == 0)
    #expect(outcome.output == "one\ntwo\n")
    #expect(try await run("nbdattach", "list", directory.absent()).status == 2)
  }
}
