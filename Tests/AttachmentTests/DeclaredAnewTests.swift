import AttachmentModel
import CertificateLab
import ForgetfulServer
import LinuxKernel
import NBDProtocol
import Synchronization
import Testing

@testable import Attachment

/// Most servers here take connections in clear and under TLS at one address, as while a site goes over to TLS: nothing
/// but the client keeps a link from being made in clear.
@Suite("what is declared with more protection than it had", .requiresCertificates, .requires(.nbdkit))
struct DeclaredAnewTests {
  private func server(in directory: TemporaryDirectory? = nil) async throws -> ServerProcess {
    let keys = try CertificateLab.write(TLSServerTests.key + "\n", to: "anew-keys")
    return try await .nbdkit(["--tls=on", "--tls-psk=\(keys)", "memory", "1M"], in: directory)
  }

  /// Attached in clear, through a relay that only remembers.
  private func attached(_ server: ServerProcess, links: Int = 1) async throws -> Recorder {
    let recorder = Recorder(server.uri(), interface: .netlink) { spec in
      spec.datapath = .relay
      spec.connections = links
    }
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    return recorder
  }

  /// The same with TLS.
  private func secured(_ spec: AttachmentSpec, _ server: ServerProcess) throws -> AttachmentSpec {
    var spec = spec
    spec.servers = [server.tlsURI()]
    spec.tls = try TLSServerTests.keySpec()
    return spec
  }

  private func areSecure(_ recorder: Recorder) -> Bool {
    recorder.device.links.allSatisfy { $0.security != nil }
  }

  @Test("links that are up in clear are renewed under TLS at once")
  func attachedInClear() async throws {
    let server = try await server()
    let recorder = try await attached(server, links: 2)
    #expect(!areSecure(recorder))
    await recorder.worker.update(try secured(recorder.worker.spec, server))
    try await recorder.wait("protection") { $0.security != nil && $0.state == .attached }
    #expect(areSecure(recorder) && recorder.device.linkCount == 2)
    #expect(
      recorder.observations.compactMap(\.notice) == [
        .serverChanged(from: server.uri(), to: server.tlsURI()), .renewedAsDeclared,
      ])
    #expect(recorder.observations.last?.report.losses == 0)
    await recorder.worker.stop()
  }

  @Test(
    "an attempt that began in clear makes no link, whether the device is there already or not",
    arguments: [false, true])
  func underWay(isHeld: Bool) async throws {
    let server = try await server()
    var spec = AttachmentSpec(name: "data", servers: [server.uri()])
    spec.datapath = .relay
    spec.connections = 1
    spec.retry = RetryPolicy(initial: .milliseconds(10), maximum: .milliseconds(50))
    let next = try secured(spec, server)
    let device = FakeDevice(interface: .netlink, datapath: .relay)
    let clear = Mutex(0)
    let owner = Mutex<AttachmentWorker?>(nil)
    // Declared anew in the midst of the negotiation in clear: on the worker's queue, as the supervisor's orders come.
    let worker = AttachmentWorker(spec, seed: 1) { _ in
      device
    } observe: { observation in
      guard observation.report.activity?.hasPrefix("negotiating") == true else { return }
      let isFirst = clear.withLock { count in
        count += 1
        return count == (isHeld ? 2 : 1)
      }
      if isFirst { owner.withLock { $0 }?.assumeIsolated { $0.update(next) } }
    }
    owner.withLock { $0 = worker }
    await worker.start()
    if isHeld {
      try await eventually("attached in clear") { device.linkCount == 1 }
      device.lose()
    }
    try await eventually("a link under TLS") { device.link?.security != nil }
    #expect(device.parameters.count == (isHeld ? 2 : 1))
    #expect(await worker.report.security?.isServerVerified == true)
    await worker.stop()
    owner.withLock { $0 = nil }
  }

  @Test("an attempt at a server that hangs, and is no longer declared, is given up at once")
  func hanging() async throws {
    let silent = try Listener(onTCP: "127.0.0.1")
    let server = try await server()
    let recorder = Recorder(silent.uri(), interface: .netlink) { spec in
      spec.datapath = .relay
      spec.connectTimeout = .seconds(3600)
    }
    await recorder.worker.start()
    try await recorder.wait("negotiating") { $0.activity?.hasPrefix("negotiating") == true }
    await recorder.worker.update(try secured(recorder.worker.spec, server))
    try await recorder.wait(for: .attached)
    #expect(areSecure(recorder))
    #expect(recorder.states == [.stopped, .connecting, .attached])
    await recorder.worker.stop()
  }

  @Test("a stop in the same moment is a stop")
  func stopped() async throws {
    let silent = try Listener(onTCP: "127.0.0.1")
    let server = try await server()
    let recorder = Recorder(silent.uri(), interface: .netlink) { $0.connectTimeout = .seconds(3600) }
    await recorder.worker.start()
    try await recorder.wait("negotiating") { $0.activity?.hasPrefix("negotiating") == true }
    await recorder.worker.update(try secured(recorder.worker.spec, server))
    await recorder.worker.stop()
    #expect(recorder.device.parameters == [])
  }

  @Test("without the new server the links go on, none is made in clear, and status and record say how it stands")
  func notReady() async throws {
    let (server, directory) = (try await server(), try TemporaryDirectory())
    let recorder = try await attached(server, links: 2)
    let clear = await recorder.worker.spec
    var next = try secured(clear, server)
    next.servers = [ServerURI(address: .unix(path: "\(directory.path)/socket"), usesTLS: true)]
    await recorder.worker.update(next)
    let report = try await recorder.wait("the reason") { $0.renewalFailure != nil && $0.failure == nil }
    #expect(report.state == .attached && report.links == 2)
    #expect(report.renewalFailure?.phase == .connecting)
    // The next process must know that its links are not as declared.
    await recorder.worker.update(next)
    #expect(recorder.observations.compactMap(\.bound).last?.record.spec == clear)

    let before = recorder.observations.count
    recorder.device.lose(1)
    try await recorder.wait(skipping: before, "tries in vain") { $0.state == .degraded && $0.attempts > 1 }
    #expect(recorder.device.linkCount == 1)
    let ready = try await self.server(in: directory)
    try await recorder.wait("protection") { $0.security != nil && $0.state == .attached && $0.links == 2 }
    #expect(areSecure(recorder) && recorder.device.linkCount == 2)
    #expect(recorder.device.placements == [.replacingLost, .replacingAll])
    #expect(await recorder.worker.report.renewalFailure == nil)
    #expect(recorder.observations.compactMap(\.bound).last?.record.spec == next)
    await recorder.worker.stop()
    withExtendedLifetime(ready) {}
  }

  @Test("new links are tried for again, at each reload and by itself", arguments: [true, false])
  func again(isReload: Bool) async throws {
    let (server, directory) = (try await server(), try TemporaryDirectory())
    var spec = AttachmentSpec(name: "data", servers: [server.uri()])
    spec.datapath = .relay
    spec.connections = 1
    spec.retry = RetryPolicy(initial: .milliseconds(10), maximum: .milliseconds(50))
    let device = FakeDevice(interface: .netlink, datapath: .relay)
    let failures = Mutex(0)
    let pause: Duration = isReload ? .seconds(3600) : .milliseconds(20)
    let worker = AttachmentWorker(spec, seed: 1, slowRetry: pause) { _ in
      device
    } observe: { observation in
      if observation.report.renewalFailure != nil { failures.withLock { $0 += 1 } }
    }
    await worker.start()
    try await eventually("attached") { device.linkCount == 1 }
    spec.servers = [ServerURI(address: .unix(path: "\(directory.path)/socket"), usesTLS: true)]
    spec.tls = try TLSServerTests.keySpec()
    await worker.update(spec)
    try await eventually("the first try has failed") { failures.withLock { $0 } > 0 }
    #expect(device.link?.security == nil)
    let ready = try await self.server(in: directory)
    if isReload { await worker.retry() }
    try await eventually("protection") { device.link?.security != nil }
    await worker.stop()
    withExtendedLifetime(ready) {}
  }

  @Test(
    "a server that can't prove who it is, once that is asked for, gets no further link; the others say what they are")
  func verification() async throws {
    let folder = try TLSServerTests.folder(CertificateLab.otherServer.get(), "anew-folder")
    let server = try await ServerProcess.nbdkit("--tls=require", "--tls-certificates=\(folder)", "memory", "1M")
    let recorder = Recorder(server.tlsURI(), interface: .netlink) { spec in
      spec.datapath = .relay
      spec.connections = 2
      spec.tls = try? TLSServerTests.spec(verify: .none)
    }
    await recorder.worker.start()
    #expect(try await recorder.wait(for: .attached).security?.isServerVerified == false)
    var spec = await recorder.worker.spec
    spec.tls = try TLSServerTests.spec()
    await recorder.worker.update(spec)
    let report = try await recorder.wait("the reason") { $0.renewalFailure != nil && $0.activity == nil }
    #expect(report.renewalFailure?.message == "the certificate is for storage2, storage3, and storage1 is expected")
    #expect(report.security?.isServerVerified == false)
    let before = recorder.observations.count
    recorder.device.lose(1)
    try await recorder.wait(skipping: before, "tries in vain") { $0.state == .degraded && $0.attempts > 1 }
    #expect(recorder.device.linkCount == 1)
    #expect(await recorder.worker.report.security?.isServerVerified == false)
    spec.tls?.serverName = "storage2"
    await recorder.worker.update(spec)
    try await recorder.wait("a server that is known") { $0.security?.isServerVerified == true && $0.links == 2 }
    #expect(recorder.device.links.allSatisfy { $0.security?.isServerVerified == true })
    await recorder.worker.stop()
  }

  @Test("a silent link that is given up does not make the others verified")
  func partial() async throws {
    let folder = try TLSServerTests.folder(nil, "partial-folder")
    let server = try await ServerProcess.nbdkit("--tls=require", "--tls-certificates=\(folder)", "memory", "1M")
    let recorder = Recorder(server.tlsURI(), interface: .netlink) { spec in
      spec.datapath = .relay
      spec.tls = try? TLSServerTests.spec(verify: .none)
    }
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    var verified = try #require(await recorder.worker.identity)
    verified.security?.isServerVerified = true
    let identity = verified
    await recorder.worker.run { worker in
      let intent = worker.intent
      var other = intent
      other.settings.tls?.verify = .full
      worker.keep(identity, for: other, isPartial: true)
      #expect(worker.identity?.security?.isServerVerified == false)
      #expect(worker.carried == intent)
      worker.keep(identity, for: intent, isPartial: true)
      #expect(worker.identity?.security?.isServerVerified == true)
    }
    await recorder.worker.stop()
  }

  @Test("a move while an attempt is under way is where that leads")
  func moveUnderWay() async throws {
    let silent = try Listener(onTCP: "127.0.0.1")
    let server = try await server()
    let recorder = Recorder(silent.uri()) { $0.connectTimeout = .seconds(3600) }
    await recorder.worker.start()
    try await recorder.wait("negotiating") { $0.activity?.hasPrefix("negotiating") == true }
    try await recorder.worker.move(to: server.uri())
    #expect(try await recorder.wait(for: .attached).server == "\(server.uri())")
    await recorder.worker.stop()
  }
}

extension AttachmentWorker {
  /// On its queue.
  fileprivate func run(_ body: @Sendable (isolated AttachmentWorker) -> Void) { body(self) }
}
