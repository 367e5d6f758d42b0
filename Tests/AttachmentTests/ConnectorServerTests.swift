import AttachmentModel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("links to real servers")
struct ConnectorServerTests {
  /// A server with 1 MiB of the pattern, and how it greets.
  struct Server: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let style: Handshake.Style
    var export = ""
    let start: @Sendable () async throws -> ServerProcess

    init(
      _ name: String, _ style: Handshake.Style = .fixedNewstyle, export: String = "",
      _ start: @escaping @Sendable () async throws -> ServerProcess
    ) {
      testDescription = name
      self.style = style
      self.export = export
      self.start = start
    }
  }

  static let nbdkits = [
    Server("nbdkit") { try await .nbdkit("pattern", "1M") },
    Server("nbdkit, an export name that it ignores", export: "any/thing ä") { try await .nbdkit("pattern", "1M") },
    Server("nbdkit file") { try await .nbdkit("file", patternFile()) },
    Server("nbdkit --oldstyle", .oldstyle) { try await .nbdkit("--oldstyle", "pattern", "1M") },
    Server("nbdkit --mask-handshake=0", .newstyle) { try await .nbdkit("--mask-handshake=0", "pattern", "1M") },
    Server("nbdkit --mask-handshake=1") { try await .nbdkit("--mask-handshake=1", "pattern", "1M") },
    Server("nbdkit --mask-handshake=2", .newstyle) { try await .nbdkit("--mask-handshake=2", "pattern", "1M") },
    Server("nbdkit --mask-handshake=3") { try await .nbdkit("--mask-handshake=3", "pattern", "1M") },
    Server("nbdkit --no-sr") { try await .nbdkit("--no-sr", "pattern", "1M") },
    Server("nbdkit on 127.0.0.1") { try await .nbdkit(onTCP: "127.0.0.1", "pattern", "1M") },
    Server("nbdkit on ::1") { try await .nbdkit(onTCP: "::1", "pattern", "1M") },
  ]

  static let others = [
    Server("qemu-nbd") { try await .qemuNBD(patternFile()) },
    Server("qemu-nbd -x", export: "disk") { try await .qemuNBD("-x", "disk", patternFile()) },
    Server("nbd-server", export: "disk") { try await .nbdServer("[disk]\nexportname = \(patternFile())") },
  ]

  @Test("after the handshake the next byte is the reply to the first request", .requires(.nbdkit), arguments: nbdkits)
  func nextByte(server: Server) async throws { try await checkNextByte(server) }

  @Test("the same with other servers", .requires(.qemuNBD, .nbdServer), arguments: others)
  func nextByteElsewhere(server: Server) async throws { try await checkNextByte(server) }

  private func checkNextByte(_ server: Server) async throws {
    let process = try await server.start()
    let client = Client()
    let link = try await client.link(process.uri(server.export))
    #expect(link.export.size == 1 << 20)
    #expect(link.export.name == server.export)
    #expect(link.export.flags.contains(.hasFlags))
    #expect(try await client.read(link, offset: 0, length: 4096) == pattern(offset: 0, count: 4096))
    #expect(try await client.read(link, offset: 1_048_064, length: 512) == pattern(offset: 1_048_064, count: 512))
    await client.disconnect(link)
    #expect(await client.isClosed(link))
  }

  @Test("the probe knows how the server greets", .requires(.nbdkit), arguments: nbdkits)
  func style(server: Server) async throws { try await checkStyle(server) }

  @Test("the same of other servers", .requires(.qemuNBD, .nbdServer), arguments: others)
  func styleElsewhere(server: Server) async throws { try await checkStyle(server) }

  private func checkStyle(_ server: Server) async throws {
    let process = try await server.start()
    let answer = try await Probe(process.uri(server.export), timeout: .seconds(30)).export()
    #expect(answer.style == server.style)
    #expect(answer.value.size == 1 << 20)
    #expect(!answer.peer.isEmpty)
  }

  // MARK: What an export is

  @Test("read-only exports say so", .requires(.nbdkit, .qemuNBD, .nbdServer))
  func readOnly() async throws {
    for server in [
      Server("nbdkit") { try await .nbdkit("-r", "memory", "1M") },
      Server("qemu-nbd") { try await .qemuNBD("-r", patternFile()) },
      Server("nbd-server", export: "d") { try await .nbdServer("[d]\nexportname = \(patternFile())\nreadonly = true") },
    ] {
      let process = try await server.start()
      let link = try await Client().link(process.uri(server.export))
      #expect(link.export.flags.contains(.readOnly), "\(server.testDescription)")
    }
    let writable = try await ServerProcess.nbdkit("memory", "1M")
    #expect(!(try await Client().link(writable.uri()).export.flags.contains(.readOnly)))
  }

  @Test(
    "block sizes arrive as the server says them", .requires(.nbdkit),
    arguments: [
      BlockSizes(minimum: 4096, preferred: 4096, maximumPayload: 1 << 20),
      BlockSizes(minimum: 65536, preferred: 65536, maximumPayload: 32 << 20),
      BlockSizes(minimum: 1, preferred: 512, maximumPayload: 64 << 10),
    ])
  func blockSizes(sizes: BlockSizes) async throws {
    let server = try await ServerProcess.nbdkit(
      "--filter=blocksize-policy", "memory", "1M", "blocksize-error-policy=error",
      "blocksize-minimum=\(sizes.minimum)", "blocksize-preferred=\(sizes.preferred)",
      "blocksize-maximum=\(sizes.maximumPayload)")
    #expect(try await Client().link(server.uri()).export.blockSizes == sizes)
    #expect(try await Probe(server.uri(), timeout: .seconds(30)).export().value.blockSizes == sizes)
  }

  @Test("any size arrives as it is", .requires(.nbdkit), arguments: [0, 1, 1000, 1_048_593, (1 << 63) - 1] as [UInt64])
  func sizes(size: UInt64) async throws {
    let server = try await ServerProcess.nbdkit("pattern", "\(size)")
    #expect(try await Client().link(server.uri()).export.size == size)
  }

  @Test("an empty export is one for the probe too", .requires(.nbdkit))
  func empty() async throws {
    let server = try await ServerProcess.nbdkit("null", "0")
    let answer = try await Probe(server.uri(), timeout: .seconds(30)).export()
    #expect(answer.value.size == 0)
    try await server.waitForLog("NBD_CMD_DISC")
  }

  @Test("data at the far end of a huge export is read", .requires(.nbdkit))
  func farEnd() async throws {
    let server = try await ServerProcess.nbdkit("pattern", "\(Int64.max)")
    let client = Client()
    let link = try await client.link(server.uri())
    let offset = UInt64(Int64.max) - 1023
    #expect(try await client.read(link, offset: offset, length: 512) == pattern(offset: offset, count: 512))
  }

  // MARK: Several exports

  @Test("each of several exports is reached by its name", .requires(.nbdkit, .nbdServer))
  func several() async throws {
    let directory = try TemporaryDirectory()
    for (name, size) in [("one", 1024), ("two", 2048)] {
      try directory.write(String(repeating: "x", count: size), to: "exports/\(name)")
    }
    let files = "\(directory.path)/exports"
    let sections = "[one]\nexportname = \(files)/one\n[two]\nexportname = \(files)/two"
    for start in [
      { @Sendable in try await ServerProcess.nbdkit("file", "dir=\(files)") },
      { @Sendable in try await ServerProcess.nbdServer(sections, options: "allowlist = true") },
    ] {
      for (name, size) in [("one", 1024), ("two", 2048)] as [(String, UInt64)] {
        let server = try await start()
        #expect(try await Client().link(server.uri(name)).export.size == size)
      }
      let server = try await start()
      let list = try await Probe(server.uri(), timeout: .seconds(30)).exports()
      #expect(list.value.map(\.name).sorted() == ["one", "two"])
      #expect(list.style == .fixedNewstyle)
    }
  }

  @Test("names and descriptions are listed", .requires(.nbdkit, .qemuNBD))
  func descriptions() async throws {
    let nbdkit = try await ServerProcess.nbdkit(
      "--filter=exportname", "memory", "1M", "exportname=a/b", "exportname= ä", "exportname-list=explicit",
      "exportdesc=fixed:of a kind")
    let entries = try await Probe(nbdkit.uri(), timeout: .seconds(30)).exports().value
    #expect(entries.map(\.name) == ["a/b", " ä"])
    #expect(entries.map(\.description) == ["of a kind", "of a kind"])
    let qemu = try await ServerProcess.qemuNBD("-x", "disk", "-D", "a disk", patternFile())
    let entry = try await Probe(qemu.uri(), timeout: .seconds(30)).exports().value
    #expect(entry == [ExportEntry(name: "disk", description: "a disk")])
    #expect(try await Probe(qemu.uri("disk"), timeout: .seconds(30)).export().value.description == "a disk")
  }

  @Test("a wrong export name is named, and final", .requires(.nbdkit, .qemuNBD, .nbdServer))
  func wrongName() async throws {
    for server in [
      Server("nbdkit") {
        try await .nbdkit("--filter=exportname", "memory", "1M", "exportname=right", "exportname-strict=true")
      },
      Server("qemu-nbd") { try await .qemuNBD("-x", "right", patternFile()) },
      Server("nbd-server") { try await .nbdServer("[right]\nexportname = \(patternFile())") },
    ] {
      let process = try await server.start()
      let problem = try await failure { () throws(Failure) in try await Client().link(process.uri("wr\u{1b}ong")) }
      #expect(problem.phase == .negotiating)
      #expect(problem.advice == .giveUp, "\(server.testDescription): \(problem.message)")
      #expect(problem.message.contains(#""wr\u{1b}ong""#), "\(server.testDescription): \(problem.message)")
      #expect(!problem.message.unicodeScalars.contains("\u{1b}"))
      #expect(problem.hint != nil)
    }
  }

  @Test("a server without export names is not asked for one", .requires(.nbdkit))
  func oldstyleName() async throws {
    let server = try await ServerProcess.nbdkit("--oldstyle", "memory", "1M")
    let problem = try await failure { () throws(Failure) in try await Client().link(server.uri("data")) }
    #expect(problem.advice == .giveUp)
    #expect(problem.message.contains("oldstyle") && problem.message.contains("\"data\""))
    let list = try await failure { () throws(Failure) in
      try await Probe(server.uri(), timeout: .seconds(30)).exports()
    }
    #expect(list.message.contains("can't list"))
  }

  // MARK: Leaving

  @Test("a probe takes its leave with NBD_OPT_ABORT", .requires(.nbdkit))
  func abort() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    _ = try await Probe(server.uri(), timeout: .seconds(30)).exports()
    try await server.waitForLog("NBD_OPT_ABORT")
  }

  @Test("after a refusal the farewell is NBD_OPT_ABORT", .requires(.nbdkit))
  func abortAfterRefusal() async throws {
    let server = try await ServerProcess.nbdkit(
      "--filter=exportname", "memory", "1M", "exportname=right", "exportname-strict=true")
    _ = try await failure { () throws(Failure) in try await Client().link(server.uri("wrong")) }
    try await server.waitForLog("NBD_OPT_ABORT")
  }

  @Test("a probe that had to enter transmission leaves it with NBD_CMD_DISC", .requires(.nbdkit))
  func disconnect() async throws {
    let server = try await ServerProcess.nbdkit("--mask-handshake=0", "memory", "1M")
    _ = try await Probe(server.uri(), timeout: .seconds(30)).export()
    try await server.waitForLog("NBD_CMD_DISC")
  }
}

/// A file with 1 MiB of the pattern, made once for all tests.
private func patternFile() throws -> String { try patternFileResult.get() }

private let patternDirectory = Result { try TemporaryDirectory() }
private let patternFileResult = Result {
  try patternDirectory.get().write(pattern(offset: 0, count: 1 << 20), to: "pattern")
}
