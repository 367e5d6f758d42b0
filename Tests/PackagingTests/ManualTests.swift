import Control
import Foundation
import Testing

@Suite("the programs and their manual pages")
struct ManualTests {
  @Test("each says the version that the package has", arguments: Program.all)
  func version(program: Program) throws {
    #expect(try program.output("--version") == programVersion + "\n")
  }

  @Test("the page describes every command, argument and option", arguments: Program.all)
  func described(program: Program) throws {
    let page = try program.page()
    for command in try program.commands() {
      if command.name != program.name {
        #expect(page.contains(".Cm \(command.name)\n"), "the command \(command.name)")
      }
      for argument in command.arguments {
        for name in argument.names {
          #expect(page.options.contains(name), "the option \(name) of \(command.name)")
        }
        if let value = argument.value, argument.names.isEmpty {
          #expect(page.contains(".Ar \(value)"), "the argument \(value) of \(command.name)")
        }
      }
    }
  }

  @Test("the page describes no option that is not there", arguments: Program.all)
  func noMore(program: Program) throws {
    let names = try program.commands().flatMap { $0.arguments.flatMap(\.names) }
    #expect(try program.page().options.subtracting(names).isEmpty)
  }

  @Test("every exit status that the help speaks of is in the page")
  func exitStatus() throws {
    let program = Program(name: "nbdattach", section: 1)
    let help = try program.output("--help").replacing("\n", with: " ")
    let sentence = try #require(help.firstMatch(of: #/Exit status: (.*?)\. /#)).output.1
    let statuses = sentence.matches(of: #/(?:^|, )(\d+) /#).map { String($0.output.1) }
    #expect(statuses == ["0", "1", "2", "64"])
    let section = try #require(try program.page().text.split(separator: ".Sh EXIT STATUS").last)
    for status in statuses { #expect(section.contains(".It \(status)\n")) }
  }

  @Test("wrong usage ends with 64", arguments: Program.all)
  func usage(program: Program) throws {
    #expect(try program.run("--no-such-option").status == 64)
  }
}

/// A program as it was built, and its manual page.
struct Program: CustomTestStringConvertible {
  let name: String
  let section: Int

  static let all = [Program(name: "nbdattach", section: 1), Program(name: "nbdattachd", section: 8)]

  var testDescription: String { name }

  /// A command as ArgumentParser describes it; the program itself is one too.
  struct Command {
    var name: String
    var arguments: [Argument]
  }

  struct Argument {
    /// As they are typed, `--json`; none where the argument goes by its place.
    var names: [String]
    var value: String?
  }

  func commands() throws -> [Command] {
    struct Dump: Decodable {
      var command: DumpedCommand
    }
    return try JSONDecoder().decode(Dump.self, from: Data(output("--experimental-dump-help").utf8)).command.flattened
  }

  /// It stands beside the tests' own.
  var executable: URL {
    URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent().appending(path: name)
  }

  func page() throws -> Page {
    let root = URL(filePath: #filePath).appending(path: "../../..").standardized
    return Page(
      text: try String(contentsOf: root.appending(path: "packaging/man/\(name).\(section)"), encoding: .utf8))
  }

  func output(_ arguments: String...) throws -> String { try run(arguments).output }

  func run(_ arguments: String...) throws -> (status: Int32, output: String) { try run(arguments) }

  func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    let output = Pipe()
    process.standardOutput = output
    process.standardError = FileHandle.nullDevice
    try process.run()
    let data = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: data, as: UTF8.self))
  }
}

/// A manual page, in mdoc(7).
struct Page {
  let text: String

  func contains(_ part: String) -> Bool { text.contains(part) }

  /// Every option that it names, as it is typed: `.Fl -json` is `--json`.
  var options: Set<String> {
    Set(text.matches(of: /(?:\.| )Fl (\S+)/).map { "-" + $0.output.1 })
  }
}

private struct DumpedCommand: Decodable {
  var commandName: String
  var arguments: [DumpedArgument]?
  var subcommands: [DumpedCommand]?

  /// Without `help`, which every program of ArgumentParser has.
  var flattened: [Program.Command] {
    let own = Program.Command(
      name: commandName,
      arguments: (arguments ?? []).map { argument in
        Program.Argument(names: (argument.names ?? []).map(\.typed), value: argument.valueName)
      })
    return [own] + (subcommands ?? []).filter { $0.commandName != "help" }.flatMap(\.flattened)
  }
}

private struct DumpedArgument: Decodable {
  var names: [DumpedName]?
  var valueName: String?
}

private struct DumpedName: Decodable {
  var kind: String
  var name: String

  var typed: String { (kind == "long" ? "--" : "-") + name }
}
