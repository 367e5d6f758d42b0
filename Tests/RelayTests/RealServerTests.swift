import AttachmentModel
import CertificateLab
import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel
import Testing

@testable import Relay

@Suite(
  "A real nbdkit", .enabled(if: Nbdkit.path != nil, "not installed: nbdkit"), .timeLimit(.minutes(3)))
struct RealServerTests {
  @Test(
    "stopped and killed under load and started again: no error, and the right bytes", arguments: [SIGTERM, SIGKILL])
  func restarts(signal: Int32) async throws {
    let server = try Nbdkit(size: Self.size)
    try await check(server, signal) { PlainTransport(try await server.link()) }
  }

  @Test("the same under TLS", .requiresCertificates, arguments: [SIGTERM, SIGKILL])
  func secureRestarts(signal: Int32) async throws {
    let folder = try CertificateLab.folder(
      "relay-\(signal)", authority: CertificateLab.authority.get(), server: CertificateLab.server.get())
    let server = try Nbdkit(size: Self.size, options: ["--tls=require", "--tls-certificates=\(folder)"])
    var tls = TLSSpec()
    tls.caFile = try CertificateLab.authority.get().certificate
    tls.serverName = "storage1"
    let spec = tls
    try await check(server, signal) { try await server.secureLink(spec) }
  }

  private static let size = 4 << 20

  private func check(
    _ server: Nbdkit, _ signal: Int32, _ link: () async throws -> any RelayTransport
  ) async throws {
    let size = Self.size
    try server.start()
    let events = EventLog()
    let relay = try Relay(name: "real", RelaySettings()) { events.append($0) }
    let kernel = FakeKernel(try relay.makeKernelEnd())
    let limits = ServerLimits(canMultiConn: true)
    await relay.add([RelayLink(try await link(), limits)])
    let load = Task.detached { () throws -> ModelLoad in
      var load = ModelLoad(size: size, seed: 3)
      load.longest = 32768
      try load.run(1500, depth: 16, on: kernel)
      return load
    }
    for round in 1...4 {
      while relay.snapshot().reads.count < UInt64(round * 100) { try await Task.sleep(for: .milliseconds(1)) }
      server.stop(signal)
      await events.waitForLosses(round)
      try server.start()
      await relay.add([RelayLink(try await link(), limits)])
    }
    let done = try await load.value
    #expect(done.mismatches.isEmpty)
    #expect(try kernel.ask(.read, at: 0, length: size).data == done.image)
    #expect(relay.snapshot().linksLost == 4)
    await relay.end()
  }
}
