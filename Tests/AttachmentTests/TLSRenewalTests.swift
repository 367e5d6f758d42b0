import AttachmentModel
import CertificateLab
import Foundation
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("renewed certificates and keys, under a relay in use", .requiresCertificates, .requires(.nbdkit))
struct TLSRenewalTests {
  private static let block = [UInt8](repeating: 0x5a, count: 512)

  /// Our certificate and key, in files that the test may replace.
  private func rotatingSpec(_ name: String) throws -> TLSSpec {
    let folder = try CertificateLab.folder(name, client: CertificateLab.client.get())
    return try TLSServerTests.spec(
      client: CertificateLab.Identity(certificate: "\(folder)/client-cert.pem", key: "\(folder)/client-key.pem"))
  }

  /// As programs that renew certificates do it.
  private func replace(_ path: String?, with source: String) throws {
    let path = try #require(path)
    try FileManager.default.copyItem(atPath: source, toPath: path + ".new")
    try #require(rename(path + ".new", path) == 0)
  }

  /// At the same address each; what is connected to one that was there before stays connected.
  private func server(
    _ name: String, trusting authority: CertificateLab.Identity, in directory: TemporaryDirectory
  ) async throws -> ServerProcess {
    let folder = try CertificateLab.folder(name, authority: authority, server: CertificateLab.server.get())
    return try await .nbdkit(
      ["--tls=require", "--tls-verify-peer", "--tls-certificates=\(folder)", "memory", "1M"], in: directory)
  }

  private func connections(_ server: ServerProcess) -> Int {
    server.log.components(separatedBy: "accepted connection").count - 1
  }

  @Test("a reconnection uses the new certificate; where the server refuses the old one, the links that are up stay")
  func rotation() async throws {
    let directory = try TemporaryDirectory()
    let tls = try rotatingSpec("rotating")
    let old = try await server("trusts-old", trusting: CertificateLab.authority.get(), in: directory)
    let lab = try RelayLab(old.tlsURI()) { $0.tls = tls }
    try await lab.start()
    let driver = try lab.driver()
    let new = try await server("trusts-new", trusting: CertificateLab.otherAuthority.get(), in: directory)
    await #expect(throws: Failure.self) { try await lab.worker.reconnect() }
    #expect(await lab.worker.report.state == .attached)
    #expect(try await driver.write(Self.block, at: 0) == nil)

    let next = try CertificateLab.foreignClient.get()
    try replace(tls.certificateFile, with: next.certificate)
    try replace(tls.keyFile, with: next.key)
    let writes = Task {
      var errors: [ErrorCode] = []
      for number in 0..<200 as Range<UInt64> {
        if let error = try await driver.write(Self.block, at: number * 512) { errors.append(error) }
      }
      return errors
    }
    let before = connections(new)
    try await lab.worker.reconnect()
    #expect(try await writes.value == [])
    #expect(connections(new) > before)
    let report = await lab.worker.report
    #expect(report.state == .attached && report.losses == 0 && report.failure == nil)
    // Nothing depends on the former server any more.
    old.end(SIGKILL)
    #expect(try await driver.write(Self.block, at: 0) == nil)
    #expect(try await driver.read(at: 0, count: 512) == Self.block)
    #expect(await lab.worker.report.losses == 0)
    await lab.worker.stop()
  }

  @Test("a key file that is replaced by a wrong one takes nothing down, and is named when links are to be made")
  func wrongKey() async throws {
    let directory = try TemporaryDirectory()
    let tls = try rotatingSpec("wrong-key")
    let server = try await server("trusts", trusting: CertificateLab.authority.get(), in: directory)
    let lab = try RelayLab(server.tlsURI()) { $0.tls = tls }
    try await lab.start()
    let driver = try lab.driver()
    let path = try #require(tls.keyFile)
    try replace(path, with: CertificateLab.server.get().key)
    let failure = await #expect(throws: Failure.self) { try await lab.worker.reconnect() }
    #expect(failure?.message.contains("the key in `\(path)` does not belong to the certificate") == true)
    #expect(await lab.worker.report.state == .attached)
    #expect(try await driver.write(Self.block, at: 0) == nil)

    // The link is lost too: its I/O waits until the file is right again.
    server.end(SIGKILL)
    let again = try await self.server("trusts", trusting: CertificateLab.authority.get(), in: directory)
    let report = try await lab.wait("the mistake in the status") {
      $0.links == 0 && $0.failure?.message.contains("does not belong to the certificate") == true
    }
    #expect(report.device != nil)
    try replace(path, with: CertificateLab.client.get().key)
    #expect(try await driver.write(Self.block, at: 512) == nil)
    try await lab.wait("attached again") { $0.state == .attached && $0.losses == 1 }
    await lab.worker.stop()
    withExtendedLifetime(again) {}
  }
}
