import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("a worker with a device that outlives its links", .requires(.nbdkit))
struct NetlinkWorkerTests {
  /// An nbdkit that serves so many bytes, over as many connections as are wanted.
  private func server(_ size: String = "1M", in directory: TemporaryDirectory? = nil) async throws -> ServerProcess {
    try await ServerProcess.nbdkit("memory", size, in: directory)
  }

  private func attached(
    _ server: ServerProcess, adjust: (inout AttachmentSpec) -> Void = { _ in }
  ) async throws -> Recorder {
    let recorder = Recorder(server.uri(), interface: .netlink, adjust: adjust)
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    return recorder
  }

  /// What a former process left of an attachment that `recorder` has.
  private func deviceRecord(of recorder: Recorder) throws -> DeviceRecord {
    try #require(recorder.observations.compactMap(\.bound).last).record
  }

  // MARK: Losses

  @Test("a lost server is waited for, with the same device, and tells what the next process needs")
  func reconnect() async throws {
    let first = try await server()
    let recorder = try await attached(first)
    #expect(recorder.observations.last?.report.kernelInterface == .netlink)
    let before = recorder.observations.count
    first.end(SIGKILL)
    let lost = try await recorder.wait(for: .reconnecting, skipping: before)
    #expect(lost.device == "/dev/nbd0" && lost.links == 0)
    let second = try await server(in: first.directory)
    try await recorder.wait("the second attachment") { $0.state == .attached && $0.losses == 1 }
    #expect(!recorder.states.contains(.waiting))
    #expect(recorder.devices == 1)
    #expect(recorder.device.placements == [.replacingLost, .replacingLost])
    let bound = recorder.observations.compactMap(\.bound)
    #expect(bound.count == 2)
    #expect(bound.last?.record.index == 0 && bound.last?.record.interface == .netlink)
    #expect(bound.last?.sockets.map(\.number) == recorder.device.sockets.map(\.number))
    await recorder.worker.stop()
    try await second.waitForLog("NBD_CMD_DISC")
    recorder.checkOrder()
  }

  @Test("as many links are made as are declared, where the server allows several; only lost ones are made anew")
  func severalLinks() async throws {
    let server = try await server()
    let recorder = try await attached(server) { $0.connections = 3 }
    #expect(recorder.observations.last?.report.links == 3)
    #expect(recorder.device.parameters.last?.flags.contains(.canMultiConn) == true)
    let kept = recorder.device.links.dropFirst().map { ObjectIdentifier($0.socket) }
    recorder.device.lose(1)
    let degraded = try await recorder.wait(for: .degraded)
    #expect(degraded.links == 2)
    try await recorder.wait("all links again") { $0.state == .attached && $0.losses == 1 && $0.links == 3 }
    #expect(recorder.device.links.prefix(2).map { ObjectIdentifier($0.socket) } == kept)
    await recorder.worker.stop()
    recorder.checkOrder()
  }

  @Test("a server that takes one connection only gets one")
  func oneLink() async throws {
    let server = try await ServerProcess.nbdkit("--filter=multi-conn", "memory", "1M", "multi-conn-mode=disable")
    let recorder = try await attached(server) { $0.connections = 3 }
    #expect(recorder.device.linkCount == 1)
    #expect(recorder.device.parameters.last?.flags.contains(.canMultiConn) == false)
    await recorder.worker.stop()
  }

  @Test("a device with links from before its export grew does not grow: they would refuse what is new")
  func partialRepairDoesNotGrow() async throws {
    let first = try await server()
    let recorder = try await attached(first) { $0.connections = 2 }
    // The new server takes the place of the old one, whose connections go on.
    let second = try await server("2M", in: first.directory)
    recorder.device.lose(1)
    try await recorder.wait("all links again") { $0.state == .attached && $0.losses == 1 && $0.links == 2 }
    #expect(recorder.device.parameters.map(\.size) == [1 << 20, 1 << 20])
    try await recorder.worker.reconnect()
    #expect(recorder.device.parameters.last?.size == 2 << 20)
    #expect(recorder.observations.last?.report.size == 2 << 20)
    await recorder.worker.stop()
    withExtendedLifetime(second) {}
  }

  // MARK: Exports that are no longer the same

  @Test("an export that shrank is `failed` while I/O is held, and attached when it is back")
  func shrunk() async throws {
    let first = try await server()
    let recorder = try await attached(first)
    first.end(SIGKILL)
    let smaller = try await server("512K", in: first.directory)
    let report = try await recorder.wait(for: .failed)
    #expect(report.failure?.phase == .comparing)
    #expect(report.failure?.message == "the export shrank from 1048576 to 524288 bytes")
    #expect(report.device == "/dev/nbd0")
    #expect(recorder.device.isAlive && recorder.device.releases == 0)
    #expect(recorder.device.parameters.count == 1)
    let before = recorder.observations.count
    smaller.end(SIGKILL)
    let second = try await server(in: first.directory)
    #expect(try await recorder.wait(for: .attached, skipping: before).failure == nil)
    await recorder.worker.stop()
    withExtendedLifetime(second) {}
  }

  @Test("an export that grew while the server was away makes the device grow")
  func grown() async throws {
    let first = try await server()
    let recorder = try await attached(first)
    first.end(SIGKILL)
    let second = try await server("2M", in: first.directory)
    let report = try await recorder.wait("the second attachment") { $0.state == .attached && $0.losses == 1 }
    #expect(report.size == 2 << 20)
    #expect(recorder.device.parameters.last?.size == 2 << 20)
    await recorder.worker.stop()
    withExtendedLifetime(second) {}
  }

  // MARK: Renewal

  @Test("a renewal makes new links for all, and no loss of it")
  func renew() async throws {
    let server = try await server()
    let recorder = try await attached(server) { $0.connections = 2 }
    let old = recorder.device.links.map { ObjectIdentifier($0.socket) }
    try await recorder.worker.reconnect()
    #expect(recorder.device.placements == [.replacingLost, .replacingAll])
    #expect(Set(recorder.device.links.map { ObjectIdentifier($0.socket) }).isDisjoint(with: old))
    #expect(recorder.device.linkCount == 2)
    let report = try #require(recorder.observations.last?.report)
    #expect(report.state == .attached && report.losses == 0)
    #expect(!recorder.states.contains(.degraded))
    await recorder.worker.stop()
  }

  @Test("a renewal that fails says why, and keeps the old links")
  func failedRenewal() async throws {
    let first = try await server()
    let recorder = try await attached(first)
    let old = try #require(recorder.device.link)
    // The server that listens there now has another export; the connection to the old one goes on.
    let other = try await server("512K", in: first.directory)
    let problem = await #expect(throws: Failure.self) { try await recorder.worker.reconnect() }
    #expect(problem?.phase == .comparing)
    #expect(recorder.device.link?.socket === old.socket)
    #expect(recorder.observations.last?.report.state == .attached)
    #expect(try await Client().read(old, offset: 0, length: 512).count == 512)
    await recorder.worker.stop()
    withExtendedLifetime(other) {}
  }

  @Test("a link that is lost during a renewal that fails is noticed then")
  func lossDuringFailedRenewal() async throws {
    let first = try await server()
    let silent = try Listener(onTCP: "127.0.0.1")
    let recorder = Recorder(silent.uri(), first.uri(), interface: .netlink) { spec in
      spec.connections = 2
      spec.connectTimeout = .milliseconds(300)
    }
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    var spec = await recorder.worker.spec
    spec.servers.append(ServerURI(address: .unix(path: "/nonexistent/nbd.sock")))
    await recorder.worker.update(spec)
    try await eventually("the renewal is under way") {
      recorder.observations.last?.report.activity?.hasPrefix("negotiating") == true
    }
    recorder.device.lose(1)
    first.end(SIGKILL)
    // All links are lost by now, and the server is gone.
    try await recorder.wait("I/O is held") { $0.state == .reconnecting && $0.links == 0 }
    await recorder.worker.stop()
  }

  @Test("the classic interface can't renew, and says so; its link goes on")
  func classicRenewal() async throws {
    let server = try await server()
    let problem = Failure(.binding, "the classic kernel interface can't renew", advice: .giveUp)
    let recorder = Recorder(server.uri(), script: [.succeeds, .fails(problem)])
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    await #expect(throws: problem) { try await recorder.worker.reconnect() }
    #expect(await recorder.worker.report.state == .attached)
    #expect(recorder.device.linkCount == 1)
    await recorder.worker.stop()
  }

  // MARK: Taking over and handing over

  @Test("handed over, the device is left as it is; taken over, it goes on without a new link")
  func handOver() async throws {
    let server = try await server()
    let first = try await attached(server)
    let record = try deviceRecord(of: first)
    let links = first.device.links
    await first.worker.handOver()
    #expect(first.states == [.stopped, .connecting, .attached, .stopped])
    #expect(first.device.releases == 0 && first.device.departures == 1)

    let second = Recorder(server.uri(), interface: .netlink)
    try await second.device.bind(links, record.identity.parameters, .replacingLost) { _ in }
    await second.worker.adopt(second.device, of: record)
    let report = try #require(second.observations.last?.report)
    #expect(report.state == .attached && report.links == 1 && report.losses == 0)
    #expect(report.device == "/dev/nbd0" && report.size == 1 << 20 && report.server == "\(server.uri())")
    #expect(second.devices == 0)
    #expect(second.observations.contains { $0.bound != nil })
    // From now on the new worker has it.
    second.device.lose()
    try await second.wait("the second attachment") { $0.state == .attached && $0.losses == 1 }
    #expect(!server.log.contains("NBD_CMD_DISC"))
    await second.worker.stop()
    second.checkOrder()
  }

  @Test("a device that is taken over without links is reconnected, with what it was made from in mind")
  func adoptDead() async throws {
    let first = try await server()
    let former = try await attached(first)
    let record = try deviceRecord(of: former)
    await former.worker.stop()
    first.end(SIGKILL)
    let smaller = try await server("512K", in: first.directory)
    let recorder = Recorder(first.uri(), interface: .netlink, script: [.endsAtOnce])
    try await recorder.device.bind([], record.identity.parameters, .replacingLost) { _ in }
    await recorder.worker.adopt(recorder.device, of: record)
    #expect(recorder.states.prefix(2) == [.stopped, .reconnecting])
    try await recorder.wait(for: .failed)
    smaller.end(SIGKILL)
    let second = try await server(in: first.directory)
    try await recorder.wait(for: .attached)
    #expect(recorder.devices == 0)
    await recorder.worker.stop()
    withExtendedLifetime(second) {}
  }

  @Test("one that has lost some of its links meanwhile gets new ones for these")
  func adoptDegraded() async throws {
    let server = try await server()
    let first = try await attached(server) { $0.connections = 2 }
    let record = try deviceRecord(of: first)
    let links = first.device.links
    await first.worker.handOver()
    let second = Recorder(server.uri(), interface: .netlink) { $0.connections = 2 }
    try await second.device.bind([links[0]], record.identity.parameters, .replacingLost) { _ in }
    await second.worker.adopt(second.device, of: record)
    try await second.wait("all links again") { $0.state == .attached && $0.links == 2 }
    #expect(second.device.links.first?.socket === links[0].socket)
    await second.worker.stop()
  }

  @Test("one that loses its links while it is taken over gets new ones too")
  func adoptDying() async throws {
    let server = try await server()
    let first = try await attached(server)
    let record = try deviceRecord(of: first)
    let links = first.device.links
    await first.worker.handOver()
    let second = Recorder(server.uri(), interface: .netlink)
    try await second.device.bind(links, record.identity.parameters, .replacingLost) { _ in }
    second.device.loseUnheard()
    await second.worker.adopt(second.device, of: record)
    try await second.wait("attached again") { $0.state == .attached && $0.links == 1 && $0.losses == 1 }
    #expect(second.states.contains(.reconnecting))
    await second.worker.stop()
  }

  @Test("a try under way is given up for the hand-over, and no device is left behind")
  func handOverWhileConnecting() async throws {
    let silent = try Listener(onTCP: "127.0.0.1")
    let recorder = Recorder(silent.uri(), interface: .netlink)
    await recorder.worker.start()
    try await recorder.wait("negotiating") { $0.activity?.hasPrefix("negotiating") == true }
    await recorder.worker.handOver()
    #expect(recorder.states == [.stopped, .connecting, .detaching, .stopped])
    #expect(recorder.device.releases == 0)
  }

  @Test("a changed reconnect-timeout is told to the device at once, and to the next process")
  func reconnectTimeout() async throws {
    let server = try await server()
    let recorder = try await attached(server)
    var spec = await recorder.worker.spec
    spec.reconnectTimeout = .seconds(90)
    await recorder.worker.update(spec)
    try await eventually("the device is told") { recorder.device.holdings == [.seconds(90)] }
    #expect(try deviceRecord(of: recorder).identity.parameters.reconnectTimeout == .seconds(90))
    spec.connectTimeout = .seconds(3)
    await recorder.worker.update(spec)
    #expect(recorder.device.holdings.count == 1)
    await recorder.worker.stop()
  }
}
