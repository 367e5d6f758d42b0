import AttachmentModel
import CertificateLab
import TLS
import Testing

@testable import Attachment

/// What can be had of the kernel's TLS depends on the machine; the virtual machines of `Tests/VM` have it.
@Suite("links with TLS in the kernel", .requiresCertificates, .requires(.nbdkit))
struct KernelTLSLinkTests {
  private func recorder(_ server: ServerURI, _ tls: TLSSpec?) -> Recorder {
    Recorder(server) { spec in
      spec.datapath = .ktls
      spec.tls = tls
    }
  }

  private func failure(_ recorder: Recorder) async throws -> Failure {
    await recorder.worker.start()
    let report = try await recorder.wait(for: .failed)
    await recorder.worker.stop()
    #expect(report.security == nil && recorder.device.parameters.isEmpty)
    return try #require(report.failure)
  }

  @Test("either the kernel has the connection, and reads what is right, or it is said why not")
  func overTCP() async throws {
    let folder = try TLSServerTests.folder()
    let server = try await ServerProcess.nbdkit(
      onTCP: "127.0.0.1", "--tls=require", "--tls-certificates=\(folder)", "pattern", "1M")
    let recorder = recorder(server.tlsURI(), try TLSServerTests.spec())
    if let obstacle = KernelTLS.obstacle() {
      let failure = try await failure(recorder)
      #expect(failure.message == obstacle.message && failure.hint == obstacle.hint)
      #expect(failure.phase == .binding && failure.advice == .giveUp)
      return
    }
    await recorder.worker.start()
    let report = try await recorder.wait(for: .attached)
    #expect(report.datapath == .ktls)
    #expect(
      report.security
        == LinkSecurity(version: "TLS 1.3", cipher: "AES-256-GCM", place: .kernel, isServerVerified: true))
    let link = try #require(recorder.device.link)
    #expect(link.tls == nil)
    #expect(try await Client().read(link, offset: 4096, length: 500_000) == pattern(offset: 4096, count: 500_000))
    await recorder.worker.stop()
    try await server.waitForLog("NBD_CMD_DISC")
  }

  @Test("a Unix socket is refused before it is connected to")
  func overUnix() async throws {
    let server = ServerURI(address: .unix(path: "/nowhere", isAbstract: false), exportName: "", usesTLS: true)
    let failure = try await failure(recorder(server, try TLSServerTests.spec()))
    #expect(failure.message == "the kernel does TLS over TCP only" && failure.hint == "write `datapath: relay`")
  }

  @Test("what is declared with TLS is not moved to where there is none")
  func move() async throws {
    for datapath in [Datapath.ktls, .relay] {
      let secure = ServerURI(address: .unix(path: "/nowhere", isAbstract: false), exportName: "", usesTLS: true)
      let plain = ServerURI(address: .tcp(host: "192.0.2.1", port: 1), exportName: "")
      let recorder = Recorder(secure) { $0.datapath = datapath }
      let failure = try await AttachmentTests.failure { () async throws(Failure) in
        try await recorder.worker.move(to: plain)
      }
      #expect(failure.message == "the attachment is declared with TLS, and never goes without it")
    }
  }

  @Test("nor to a server that need not prove who it is, unless those that are declared need not either")
  func moveToAnybody() async throws {
    func problem(_ spec: TLSSpec, _ server: ServerURI) async throws -> String {
      let declared = ServerURI(address: .unix(path: "/nowhere", isAbstract: false), exportName: "", usesTLS: true)
      let recorder = Recorder(declared) { attachment in
        attachment.datapath = .relay
        attachment.tls = spec
      }
      return try await AttachmentTests.failure { () async throws(Failure) in
        try await recorder.worker.move(to: server)
      }.message
    }
    let anybody = ServerURI(
      address: .tcp(host: "192.0.2.1", port: 1), exportName: "", usesTLS: true, tlsParameters: ["tls-verify-peer": "0"])
    let refusal = "the attachment is declared with a server that proves who it is, and goes to none that does not"
    #expect(try await problem(TLSServerTests.spec(), anybody) == refusal)
    // What follows is stopped, and says so.
    #expect(try await problem(TLSServerTests.spec(verify: .none), anybody) == "it is being stopped")
    var named = anybody
    named.tlsParameters = [:]
    #expect(try await problem(TLSServerTests.spec(), named) == "it is being stopped")
  }

  @Test("a server without TLS is refused before it is connected to")
  func inClear() async throws {
    let server = ServerURI(address: .tcp(host: "192.0.2.1", port: 1), exportName: "")
    let failure = try await failure(recorder(server, nil))
    #expect(failure.message == "`datapath: ktls` needs TLS, and nbd://192.0.2.1:1 has none")
  }
}
