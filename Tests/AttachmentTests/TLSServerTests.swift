import AttachmentModel
import CertificateLab
import Foundation
import NBDProtocol
import Testing

@testable import Attachment

@Suite("links under TLS to real servers", .requiresCertificates)
struct TLSServerTests {
  static let key = "alice:0123456789abcdef0123456789abcdef"

  /// `tls:` as an operator would write it.
  static func spec(
    serverName: String? = "storage1", client: CertificateLab.Identity? = nil, verify: TLSVerification = .full
  ) throws -> TLSSpec {
    var spec = TLSSpec()
    spec.caFile = try CertificateLab.authority.get().certificate
    spec.certificateFile = client?.certificate
    spec.keyFile = client?.key
    spec.serverName = serverName
    spec.verify = verify
    return spec
  }

  static func keySpec(_ content: String = key, identity: String? = nil) throws -> TLSSpec {
    var spec = TLSSpec()
    spec.pskFile = try CertificateLab.write(content + "\n", to: "attachment.psk")
    spec.pskIdentity = identity
    return spec
  }

  static func folder(_ server: CertificateLab.Identity? = nil, _ name: String = "server-folder") throws -> String {
    try CertificateLab.folder(
      name, authority: CertificateLab.authority.get(), server: server ?? CertificateLab.server.get())
  }

  struct Server: Sendable, CustomTestStringConvertible {
    let testDescription: String
    var export = ""
    var usesKey = false
    let start: @Sendable () async throws -> ServerProcess

    init(
      _ name: String, export: String = "", usesKey: Bool = false,
      _ start: @escaping @Sendable () async throws -> ServerProcess
    ) {
      testDescription = name
      self.export = export
      self.usesKey = usesKey
      self.start = start
    }
  }

  static let nbdkits = [
    Server("nbdkit, TCP") {
      try await .nbdkit(onTCP: "127.0.0.1", "--tls=require", "--tls-certificates=\(folder())", "pattern", "1M")
    },
    Server("nbdkit, Unix") { try await .nbdkit("--tls=require", "--tls-certificates=\(folder())", "pattern", "1M") },
    Server("nbdkit --tls=on") { try await .nbdkit("--tls=on", "--tls-certificates=\(folder())", "pattern", "1M") },
    Server("nbdkit, pre-shared key", usesKey: true) {
      let keys = try CertificateLab.write(key + "\n", to: "server-keys")
      return try await .nbdkit(onTCP: "127.0.0.1", "--tls=require", "--tls-psk=\(keys)", "pattern", "1M")
    },
    Server("nbdkit, pre-shared key, Unix", usesKey: true) {
      let keys = try CertificateLab.write(key + "\n", to: "server-keys")
      return try await .nbdkit("--tls=require", "--tls-psk=\(keys)", "pattern", "1M")
    },
    Server("nbdkit --filter=tls-fallback") {
      try await .nbdkit(
        "--tls=on", "--tls-certificates=\(folder())", "--filter=tls-fallback", "pattern", "1M", "tlsreadme=Plain")
    },
  ]

  static let others = [
    Server("qemu-nbd", export: "disk") {
      try await .qemuNBD(
        "-x", "disk", "--object", "tls-creds-x509,id=t,endpoint=server,verify-peer=no,dir=\(folder())", "--tls-creds",
        "t", patternFile())
    },
    Server("qemu-nbd, TCP", export: "disk") {
      try await .qemuNBD(
        onTCP: "127.0.0.1", "-x", "disk", "--object",
        "tls-creds-x509,id=t,endpoint=server,verify-peer=no,dir=\(folder())", "--tls-creds", "t", patternFile())
    },
    Server("qemu-nbd, pre-shared key", export: "disk", usesKey: true) {
      let keys = try CertificateLab.folder("qemu-keys")
      try Data((key + "\n").utf8).write(to: URL(fileURLWithPath: keys + "/keys.psk"))
      return try await .qemuNBD(
        "-x", "disk", "--object", "tls-creds-psk,id=t,endpoint=server,dir=\(keys)", "--tls-creds", "t", patternFile())
    },
    Server("nbd-server", export: "disk") {
      let identity = try CertificateLab.server.get()
      return try await .nbdServer(
        "[disk]\nexportname = \(patternFile())",
        options: """
          certfile = \(identity.certificate)
          keyfile = \(identity.key)
          cacertfile = \(CertificateLab.authority.get().certificate)
          force_tls = true
          """)
    },
  ]

  @Test("what is read is right, and the goodbye is heard", .requires(.nbdkit), arguments: nbdkits)
  func reads(server: Server) async throws { try await checkReads(server) }

  @Test("the same with other servers", .requires(.qemuNBD, .nbdServer), arguments: others)
  func readsElsewhere(server: Server) async throws { try await checkReads(server) }

  private func checkReads(_ server: Server) async throws {
    let process = try await server.start()
    let client = Client()
    // nbd-server always wants a certificate.
    let spec = try server.usesKey ? Self.keySpec() : Self.spec(client: CertificateLab.client.get())
    let link = try await client.link(process.tlsURI(server.export), tls: spec)
    #expect(link.tls != nil)
    #expect(link.export.size == 1 << 20)
    #expect(try await client.read(link, offset: 0, length: 4096) == pattern(offset: 0, count: 4096))
    #expect(try await client.read(link, offset: 65_536, length: 500_000) == pattern(offset: 65_536, count: 500_000))
    await client.disconnect(link)
    #expect(await client.isClosed(link))
  }

  @Test(
    "the probe lists and describes under TLS, and says how", .requires(.nbdkit, .qemuNBD), arguments: [true, false])
  func probe(isQEMU: Bool) async throws {
    let server = isQEMU ? Self.others[0] : Self.nbdkits[0]
    let process = try await server.start()
    let probe = try Probe(process.tlsURI(server.export), tls: Self.spec(), timeout: .seconds(30))
    let info = try await probe.export()
    #expect(info.value.size == 1 << 20)
    #expect(info.conversation.security == "TLS 1.3, AES-256-GCM")
    #expect(try await probe.exports().value.map(\.name) == [server.export])
    let unverified = try Probe(
      process.tlsURI(server.export), tls: Self.spec(verify: .none), timeout: .seconds(30))
    #expect(try await unverified.export().conversation.security == "TLS 1.3, AES-256-GCM, server not verified")
  }

  @Test("the parameters of the URI are enough", .requires(.nbdkit))
  func parameters() async throws {
    let process = try await Self.nbdkits[0].start()
    let folder = try CertificateLab.folder("uri-folder", authority: CertificateLab.authority.get())
    let parameters = ["tls-certificates": folder, "tls-hostname": "storage1"]
    #expect(try await Client().link(process.tlsURI("", parameters)).export.size == 1 << 20)
    // 127.0.0.1 stands in the certificate.
    #expect(try await Client().link(process.tlsURI("", ["tls-certificates": folder])).export.size == 1 << 20)
    let keyed = try await Self.nbdkits[3].start()
    let file = try #require(try Self.keySpec().pskFile)
    var uri = keyed.tlsURI("", ["tls-type": "psk", "tls-psk-file": file])
    uri.userName = "alice"
    #expect(try await Client().link(uri).export.size == 1 << 20)
    uri.userName = "bob"
    let problem = try await failure { () throws(Failure) in try await Client().link(uri) }
    #expect(problem.message.contains("no key of the identity `bob`"))
  }

  // MARK: What goes wrong

  private func problem(
    of process: ServerProcess, _ spec: TLSSpec?, _ export: String = "secret"
  ) async throws -> Failure {
    try await failure { () throws(Failure) in try await Client().link(process.tlsURI(export), tls: spec) }
  }

  @Test(
    "a server that is not to be trusted never hears the export's name", .requires(.nbdkit),
    arguments: [
      ("other", "the certificate is for storage2, storage3, and storage1 is expected"),
      ("expired", "the server's certificate expired on 2021-02-03 10:20 UTC"),
      (
        "foreign",
        "the server's certificate is signed by an authority that ca-file does not hold (CN=other-authority)"
      ),
    ])
  func untrusted(kind: String, message: String) async throws {
    let identities = [
      "other": CertificateLab.otherServer, "expired": CertificateLab.expiredServer,
      "foreign": CertificateLab.foreignServer,
    ]
    let identity = try #require(try identities[kind]?.get())
    let process = try await ServerProcess.nbdkit(
      "--tls=require", "--tls-certificates=\(Self.folder(identity, kind + "-folder"))", "memory", "1M")
    let problem = try await problem(of: process, Self.spec())
    #expect(problem.message == message)
    #expect(problem.phase == .negotiating && problem.advice == .giveUp && problem.hint != nil)
    #expect(!process.log.contains("secret"))
  }

  @Test("a client certificate that is missing or refused is said, and one that is right is taken", .requires(.nbdkit))
  func clientCertificate() async throws {
    let process = try await ServerProcess.nbdkit(
      "--tls=require", "--tls-verify-peer", "--tls-certificates=\(Self.folder())", "memory", "1M")
    let missing = try await problem(of: process, Self.spec())
    #expect(missing.message.hasPrefix("the server wants a client certificate, and there is none"))
    #expect(missing.hint == "give tls.certificate-file and tls.key-file")
    let refused = try await problem(of: process, Self.spec(client: CertificateLab.foreignClient.get()))
    #expect(refused.message.hasPrefix("the server refused the client certificate"))
    #expect(missing.advice == .giveUp && refused.advice == .giveUp)
    let link = try await Client().link(process.tlsURI(), tls: Self.spec(client: CertificateLab.client.get()))
    #expect(link.export.size == 1 << 20)
  }

  @Test("the same with qemu-nbd", .requires(.qemuNBD))
  func clientCertificateQEMU() async throws {
    let process = try await ServerProcess.qemuNBD(
      "-x", "disk", "--object", "tls-creds-x509,id=t,endpoint=server,verify-peer=yes,dir=\(Self.folder())",
      "--tls-creds", "t", patternFile())
    let missing = try await problem(of: process, Self.spec(), "disk")
    #expect(missing.message.hasPrefix("the server wants a client certificate, and there is none"), "\(missing)")
    let link = try await Client().link(process.tlsURI("disk"), tls: Self.spec(client: CertificateLab.client.get()))
    #expect(link.export.size == 1 << 20)
  }

  @Test("a wrong pre-shared key is said to be refused", .requires(.nbdkit))
  func wrongKey() async throws {
    let process = try await Self.nbdkits[3].start()
    let problem = try await problem(of: process, Self.keySpec("alice:00000000000000000000000000000000"))
    #expect(problem.message.hasPrefix("the server refused the pre-shared key of `alice`"))
    #expect(problem.advice == .giveUp)
  }

  @Test("a key where the server has certificates, and the other way round, have nothing in common", .requires(.nbdkit))
  func otherKind() async throws {
    let certified = try await problem(of: Self.nbdkits[0].start(), Self.keySpec())
    let keyed = try await problem(of: Self.nbdkits[3].start(), Self.spec())
    for problem in [certified, keyed] { #expect(problem.phase == .negotiating, "\(problem)") }
  }

  @Test("a server without TLS ends it before the export's name, in clear or not", .requires(.nbdkit, .qemuNBD))
  func noTLS() async throws {
    let nbdkit = try await ServerProcess.nbdkit("memory", "1M")
    let qemu = try await ServerProcess.qemuNBD("-x", "disk", patternFile())
    for process in [nbdkit, qemu] {
      let problem = try await problem(of: process, Self.spec())
      #expect(problem.message.hasPrefix("the server refused TLS"), "\(problem)")
      #expect(problem.advice == .giveUp)
      #expect(!process.log.contains("secret"))
    }
    let old = try await problem(of: .nbdkit("--oldstyle", "memory", "1M"), Self.spec())
    #expect(old.message == "the server speaks oldstyle, which has no TLS")
  }

  @Test("a server that wants TLS says so to who comes without", .requires(.nbdkit, .qemuNBD, .nbdServer))
  func forced() async throws {
    for server in [Self.nbdkits[1]] + Self.others {
      let process = try await server.start()
      let problem = try await failure { () throws(Failure) in try await Client().link(process.uri(server.export)) }
      #expect(problem.advice == .giveUp, "\(server.testDescription): \(problem)")
      #expect(problem.hint?.contains("nbds") == true, "\(server.testDescription): \(problem)")
    }
    let process = try await Self.nbdkits[1].start()
    let list = try await failure { () throws(Failure) in
      try await Probe(process.uri(), timeout: .seconds(30)).exports()
    }
    #expect(list.message.contains("requires TLS"))
  }

  /// proto.md, "SELECTIVETLS mode".
  @Test("a server that wants TLS for some exports hides them without it", .requires(.nbdServer))
  func selective() async throws {
    let identity = try CertificateLab.server.get()
    let authority = try CertificateLab.authority.get()
    let exports = """
      [open]
      exportname = \(try patternFile())
      [closed]
      exportname = \(try patternFile())
      force_tls = true
      """

    let options = """
      certfile = \(identity.certificate)
      keyfile = \(identity.key)
      cacertfile = \(authority.certificate)
      allowlist = true
      """

    func server() async throws -> ServerProcess { try await .nbdServer(exports, options: options) }
    let spec = try Self.spec(client: CertificateLab.client.get())

    let open = try await server()
    let plain = try await Client().link(open.uri("open"))
    #expect(plain.security == nil && plain.export.size == 1 << 20)
    let closed = try await server()
    let problem = try await failure { () throws(Failure) in try await Client().link(closed.uri("closed")) }
    #expect(problem.phase == .negotiating && problem.advice == .giveUp, "\(problem)")
    #expect(problem.hint?.contains("nbds") == true, "\(problem)")
    let listing = try await server()
    let names = try await Probe(listing.uri(), timeout: .seconds(30)).exports()
    #expect(names.value.map(\.name) == ["open"])
    for export in ["open", "closed"] {
      let process = try await server()
      let link = try await Client().link(process.tlsURI(export), tls: spec)
      #expect(link.security?.isServerVerified == true && link.export.size == 1 << 20)
    }
    let all = try await server()
    let secured = Probe(all.tlsURI(), tls: spec, timeout: .seconds(30))
    #expect(try await Set(secured.exports().value.map(\.name)) == ["open", "closed"])
  }

  @Test("without TLS the tls-fallback filter serves its own text", .requires(.nbdkit))
  func fallback() async throws {
    let process = try await Self.nbdkits[5].start()
    #expect(try await Client().link(process.uri()).export.size == 512)
    #expect(try await Client().link(process.tlsURI(), tls: Self.spec()).export.size == 1 << 20)
  }

  // MARK: Files

  @Test("a wrong file ends it before the server is connected to")
  func files() async throws {
    let listener = try Listener(onTCP: "127.0.0.1")
    var spec = try Self.spec()
    spec.caFile = "/nowhere/ca.pem"
    let uri = ServerURI(address: listener.address, usesTLS: true)
    let problem = try await failure { () throws(Failure) in try await Client().link(uri, tls: spec) }
    #expect(problem.message == "there is no file `/nowhere/ca.pem`")
    #expect(problem.advice == .giveUp)
    let unnamed = ServerURI(address: .unix(path: "/nowhere"), usesTLS: true)
    let nameless = try await failure { () throws(Failure) in try await Client().link(unnamed) }
    #expect(nameless.message == "no name to compare the server's certificate with")
  }

  @Test("a changed file is used for the next link", .requires(.nbdkit))
  func rotation() async throws {
    let process = try await ServerProcess.nbdkit(
      "--tls=require", "--tls-verify-peer", "--tls-certificates=\(Self.folder())", "memory", "1M")
    let good = try CertificateLab.client.get()
    let bad = try CertificateLab.foreignClient.get()
    func install(_ identity: CertificateLab.Identity) throws -> CertificateLab.Identity {
      CertificateLab.Identity(
        certificate: try CertificateLab.write(
          String(contentsOfFile: identity.certificate, encoding: .utf8), to: "now.pem"),
        key: try CertificateLab.write(String(contentsOfFile: identity.key, encoding: .utf8), to: "now.key"))
    }
    let spec = try Self.spec(client: install(bad))
    _ = try await problem(of: process, spec)
    _ = try install(good)
    #expect(try await Client().link(process.tlsURI(), tls: spec).export.size == 1 << 20)
    _ = try install(bad)
    #expect(try await problem(of: process, spec).message.hasPrefix("the server refused the client certificate"))
  }
}

/// A file with 1 MiB of the pattern.
private func patternFile() throws -> String {
  let text = pattern(offset: 0, count: 1 << 20)
  let path = try CertificateLab.write("", to: "pattern")
  try Data(text).write(to: URL(fileURLWithPath: path))
  return path
}
