import AttachmentModel
import CertificateLab
import FakeDriver
import Glibc
import NBDProtocol
import Testing

@testable import Attachment

@Suite("a relay's worker under TLS", .requiresCertificates, .requires(.nbdkit))
struct SecureRelayTests {
  /// `-t 16` in effect: a server that serves several requests at once.
  private func server(_ file: String, tls: [String]) async throws -> ServerProcess {
    try await .nbdkit(tls + ["file", file])
  }

  private func certificates(_ name: String, _ server: CertificateLab.Identity? = nil) throws -> [String] {
    ["--tls=require", "--tls-certificates=\(try TLSServerTests.folder(server, name))"]
  }

  private func disk(in directory: TemporaryDirectory) throws -> String {
    let path = "\(directory.path)/disk"
    _ = try directory.write(String(repeating: "\0", count: 1 << 20), to: "disk")
    return path
  }

  private func lab(_ servers: ServerURI..., tls: TLSSpec) throws -> RelayLab {
    var spec = AttachmentSpec(name: "data", servers: servers)
    spec.device = .index(RelayLab.index)
    spec.connections = 2
    spec.retry = RetryPolicy(initial: .milliseconds(10), maximum: .milliseconds(50))
    spec.tls = tls
    return RelayLab(try NetlinkLab(), spec)
  }

  @Test("carries I/O, goes on with the next server when one is lost, and says how it is protected")
  func failOver() async throws {
    let directory = try TemporaryDirectory()
    let file = try disk(in: directory)
    let keys = try CertificateLab.write(TLSServerTests.key + "\n", to: "relay-keys")
    let one = try await server(file, tls: ["--tls=require", "--tls-psk=\(keys)"])
    let two = try await server(file, tls: ["--tls=require", "--tls-psk=\(keys)"])
    let lab = try lab(one.tlsURI(), two.tlsURI(), tls: TLSServerTests.keySpec())
    try await lab.start()
    #expect(await lab.worker.report.security?.cipher.hasPrefix("AES-") == true)
    #expect(lab.kernel.driver.socket(of: RelayLab.index) != nil)
    let driver = try lab.driver()
    let bytes = (0..<300_032).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
    #expect(try await driver.write(bytes, at: 4096) == nil)
    one.end(SIGKILL)
    #expect(try await driver.read(at: 4096, count: bytes.count) == bytes)
    #expect(try await driver.flush() == nil)
    try await lab.wait("the second server") { $0.state == .attached && $0.server == "\(two.tlsURI())" }
    #expect(lab.states.contains(.reconnecting))
    await lab.worker.stop()
  }

  @Test("a server that can't prove who it is gets no I/O, and the device none of its links")
  func impostor() async throws {
    let directory = try TemporaryDirectory()
    let file = try disk(in: directory)
    let right = try await server(file, tls: certificates("relay-right"))
    let wrong = try await server(file, tls: certificates("relay-wrong", CertificateLab.otherServer.get()))
    let lab = try lab(right.tlsURI(), tls: TLSServerTests.spec())
    try await lab.start()
    #expect(
      await lab.worker.report.security
        == LinkSecurity(version: "TLS 1.3", cipher: "AES-256-GCM", place: .relay, isServerVerified: true))
    let driver = try lab.driver()
    let block = [UInt8](repeating: 7, count: 512)
    #expect(try await driver.write(block, at: 0) == nil)
    await #expect(throws: Failure.self) { try await lab.worker.move(to: wrong.tlsURI()) }
    #expect(try await driver.read(at: 0, count: 512) == block)
    let report = await lab.worker.report
    #expect(report.state == .attached && report.links == 2 && report.server == "\(right.tlsURI())")
    #expect(!wrong.log.contains("pread"))
    await lab.worker.stop()
  }

  @Test("a device without a relay is not moved to a server with TLS")
  func direct() async throws {
    let directory = try TemporaryDirectory()
    let file = try disk(in: directory)
    let plain = try await server(file, tls: [])
    let secure = try await server(file, tls: certificates("relay-direct"))
    let recorder = Recorder(plain.uri(), interface: .netlink) { $0.tls = try? TLSServerTests.spec() }
    let worker = recorder.worker
    await worker.start()
    try await eventually("attached") { recorder.states.last == .attached }
    do {
      try await worker.move(to: secure.tlsURI())
      Issue.record("moved")
    } catch {
      #expect(error.message.contains("can't carry TLS"))
    }
    #expect(await worker.report.state == .attached)
    await worker.stop()
  }
}
