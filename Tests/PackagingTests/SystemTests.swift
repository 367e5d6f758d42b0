import Foundation
import Glibc
import Testing

@Suite("what systemd and udev read")
struct SystemTests {
  private static let hasSystemd = ["/usr/bin/systemd-analyze", generator].allSatisfy {
    FileManager.default.isExecutableFile(atPath: $0)
  }
  private static let generator = "/usr/lib/systemd/system-generators/systemd-fstab-generator"

  @Test("systemd finds nothing wrong with the units", .enabled(if: hasSystemd, "systemd is not installed"))
  func units() throws {
    try withDirectory { directory in
      let units = try copyUnits(to: directory)
      let result = try run("/usr/bin/systemd-analyze", ["verify", "--man=no"] + units.map { directory + "/" + $0 })
      #expect(result.status == 0)
      #expect(result.errors == "")
    }
  }

  @Test(
    "the line for fstab makes a mount that needs its attachment, waits for the device, and lets the boot go on",
    .enabled(if: hasSystemd, "systemd is not installed"), arguments: ["packaging/man/nbdattach.yaml.5", "README.md"])
  func fstab(document: String) throws {
    let lines = try text(document).split(separator: "\n").filter { $0.hasPrefix("/dev/disk/by-nbd/") }
    #expect(lines.count == 1)
    try withDirectory { directory in
      try (lines[0] + "\n").write(toFile: directory + "/fstab", atomically: true, encoding: .utf8)
      let result = try run(
        SystemTests.generator, [directory, directory, directory], environment: ["SYSTEMD_FSTAB": directory + "/fstab"])
      #expect(result.status == 0)
      let mount = try String(contentsOfFile: directory + "/srv-data.mount", encoding: .utf8)
      for line in [
        "Requires=nbdattach@data.service", "After=nbdattach@data.service", "What=/dev/disk/by-nbd/data",
      ] {
        #expect(mount.contains(line + "\n"), "\(line)")
      }
      let files = FileManager.default
      #expect(files.fileExists(atPath: directory + "/remote-fs.target.wants/srv-data.mount"))
      #expect(!files.fileExists(atPath: directory + "/remote-fs.target.requires"))
      let device = try String(
        contentsOfFile: directory + #"/dev-disk-by\x2dnbd-data.device.d/50-device-timeout.conf"#, encoding: .utf8)
      #expect(device.contains("JobRunningTimeoutSec=infinity\n"))
      // No cycle between it and our units.
      _ = try copyUnits(to: directory)
      let verified = try run("/usr/bin/systemd-analyze", ["verify", "--man=no", directory + "/srv-data.mount"])
      #expect(verified.errors == "")
    }
  }

  @Test("what the units run is what the program understands")
  func commands() throws {
    let program = Program(name: "nbdattach", section: 1)
    let units = try ["nbdattach@", "nbdattach-shutdown"].map { try text("packaging/\($0).service") }.joined()
    let calls = units.matches(of: /(?:Start|Stop)=-?\/usr\/bin\/nbdattach (.*)/).map {
      $0.output.1.split(separator: " ")
    }
    #expect(calls.map(\.first) == ["start", "stop", "end-holding"])
    for call in calls {
      var arguments = call.map { $0 == "%i" ? "my-data.2" : String($0) }
      arguments.insert("--socket=/nonexistent/control", at: 1)
      // It went as far as to ask.
      #expect(try program.run(arguments).status == 2)
    }
  }

  @Test(
    "udev makes a link for every name that an attachment may have",
    arguments: ["data", "my-data.2", "_", "A", "0", "a..b", String(repeating: "x", count: 64)])
  func names(name: String) throws {
    let rules = try Rules(text("packaging/60-nbdattach.rules"))
    #expect(!rules.refuses("nbdattach:" + name))
    #expect(try rules.imported("nbdattach:" + name) == "NBDATTACH_NAME=\(name)\n")
  }

  @Test(
    "udev passes over identifiers of others, and those that could run a command or leave the folder",
    arguments: [
      "", "data", "nbdattach", "nbdattach:", "other:data", "xnbdattach:data", "nbdattach:.", "nbdattach:..",
      "nbdattach:../../sda", "nbdattach:-n", "nbdattach:a/b", "nbdattach:a b", "nbdattach:a;reboot", "nbdattach:$(id)",
      "nbdattach:`id`", "nbdattach:a'b", "nbdattach:a\"b", "nbdattach:a\\b", "nbdattach:a\nB=1", "nbdattach:ä",
      "nbdattach:a%k", "nbdattach:a:b", "nbdattach:a*", "nbdattach:[a]", "nbdattach:a|b", "nbdattach:\u{1b}",
    ])
  func oddNames(backend: String) throws {
    #expect(try Rules(text("packaging/60-nbdattach.rules")).refuses(backend))
  }

  @Test("every jump in the rules has a place to go to")
  func labels() throws {
    let rules = try text("packaging/60-nbdattach.rules")
    let jumps = Set(rules.matches(of: /GOTO="([^"]*)"/).map { String($0.output.1) })
    let labels = Set(rules.matches(of: /LABEL="([^"]*)"/).map { String($0.output.1) })
    #expect(jumps == labels)
  }

  /// The units with a program that is there, so that systemd does not miss ours; their names, of an instance too.
  private func copyUnits(to directory: String) throws -> [String] {
    try ["nbdattachd", "nbdattach@", "nbdattach-shutdown"].map { name in
      let unit = try text("packaging/\(name).service").replacing(/\/usr\/s?bin\/nbdattachd?/, with: "/bin/true")
      try unit.write(toFile: "\(directory)/\(name).service", atomically: true, encoding: .utf8)
      if !name.hasSuffix("@") { return name + ".service" }
      try unit.write(toFile: "\(directory)/\(name)my-data.2.service", atomically: true, encoding: .utf8)
      return name + "my-data.2.service"
    }
  }
}

/// What the rules make of the attribute `backend`, by the same fnmatch(3) that udev uses.
private struct Rules {
  private let leaving: [String]
  private let used: String
  private let command: String

  init(_ text: String) throws {
    leaving = text.matches(of: /(?m)^ATTRS\{backend\}=="([^"]*)", GOTO="nbdattach_end"$/).map { String($0.output.1) }
    let line = #/(?m)^ATTRS\{backend\}=="([^"]*)", IMPORT\{program\}="/bin/sh -c '([^']*)'"$/#
    let found = try #require(text.firstMatch(of: line))
    used = String(found.output.1)
    command = String(found.output.2)
  }

  /// Whether a rule leaves before the identifier is used, or it is none that is used.
  func refuses(_ backend: String) -> Bool {
    leaving.contains { fnmatch($0, backend, 0) == 0 } || fnmatch(used, backend, 0) != 0
  }

  /// What the shell prints of it.
  func imported(_ backend: String) throws -> String {
    let script = command.replacing("$attr{backend}", with: backend).replacing("$$", with: "$")
    return try run("/bin/sh", ["-c", script]).output
  }
}

private func text(_ path: String) throws -> String {
  let root = URL(filePath: #filePath).appending(path: "../../..").standardized
  return try String(contentsOf: root.appending(path: path), encoding: .utf8)
}

private func run(
  _ program: String, _ arguments: [String], environment: [String: String] = [:]
) throws -> (status: Int32, output: String, errors: String) {
  let process = Process()
  process.executableURL = URL(filePath: program)
  process.arguments = arguments
  process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
  let output = Pipe()
  let errors = Pipe()
  process.standardOutput = output
  process.standardError = errors
  try process.run()
  let printed = try output.fileHandleForReading.readToEnd() ?? Data()
  let complained = try errors.fileHandleForReading.readToEnd() ?? Data()
  process.waitUntilExit()
  return (
    process.terminationStatus, String(decoding: printed, as: UTF8.self), String(decoding: complained, as: UTF8.self)
  )
}

private func withDirectory(_ body: (String) throws -> Void) throws {
  let directory = FileManager.default.temporaryDirectory.appending(path: UUID().uuidString).path
  try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: directory) }
  try body(directory)
}
