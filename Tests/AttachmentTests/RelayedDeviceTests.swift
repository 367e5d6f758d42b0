import AttachmentModel
import FakeDriver
import ForgetfulServer
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("a worker with a relay between kernel and server")
struct RelayedDeviceTests {
  private static let block = [UInt8](repeating: 0x5a, count: 4096)

  private func servers(_ count: Int = 1) throws -> (TemporaryDirectory, [ForgetfulServer], [ServerURI]) {
    let directory = try TemporaryDirectory()
    var (servers, uris): ([ForgetfulServer], [ServerURI]) = ([], [])
    for number in 0..<count {
      let server = try ForgetfulServer(size: 1 << 20)
      uris.append(try server.listen(onUnix: "\(directory.path)/server\(number)"))
      servers.append(server)
    }
    return (directory, servers, uris)
  }

  @Test("a server that crashes and comes back is no loss to the kernel, and neither is what it had acknowledged")
  func restart() async throws {
    let (directory, servers, uris) = try servers()
    let lab = try RelayLab(uris[0])
    try await lab.start()
    #expect(await lab.worker.report.datapath == .relay)
    let driver = try lab.driver()
    try await driver.write(Self.block, at: 8192)
    servers[0].crash()
    let lost = try await lab.wait(for: .reconnecting)
    #expect(lost.device == "/dev/nbd5000" && lost.failure?.phase == .serving)
    // Asked while there is no server.
    async let answer = driver.read(at: 8192, count: 4096)
    try servers[0].restart()
    #expect(try await answer == Self.block)
    try await lab.wait("all again") { $0.state == .attached && $0.losses >= 1 }
    #expect(lab.commands == [.connect])
    #expect(lab.notices.contains(.recovered(resent: 0, replayed: 1, replayedBytes: 4096)))
    let counted = try #require(lab.worker.statistics)
    #expect(counted.writes.count == 1 && counted.reads.count == 1 && counted.writes.errors == 0)
    #expect(counted.replayed == 1 && counted.replayedBytes == 4096)
    await lab.worker.stop()
    #expect(servers[0].facts.violations == [])
    #expect(servers[0].durable[8192..<12288].elementsEqual(Self.block))
    withExtendedLifetime(directory) {}
  }

  @Test("a server that says that it shuts down is a lost one, and never an error")
  func shuttingDown() async throws {
    let (directory, servers, uris) = try servers()
    let lab = try RelayLab(uris[0])
    try await lab.start()
    let driver = try lab.driver()
    servers[0].behave { $0.refuseEverything() }
    async let error = driver.write(Self.block, at: 0)
    let lost = try await lab.wait(for: .reconnecting)
    #expect(lost.failure?.message.contains("shutting down") == true)
    servers[0].behave { $0.treat = { _ in .serve } }
    #expect(try await error == nil)
    #expect(lab.commands == [.connect])
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("several connections lead to one server; losing one of them is no pause")
  func severalLinks() async throws {
    let (directory, servers, uris) = try servers(2)
    let lab = try RelayLab(uris[0], uris[1]) { $0.connections = 3 }
    try await lab.start()
    #expect(await lab.worker.report.links == 3)
    #expect(servers[0].facts.connected == 3 && servers[1].facts.connected == 0)
    servers[0].drop(connection: 1)
    try await lab.wait(for: .degraded)
    #expect(try await lab.driver().write(Self.block, at: 0) == nil)
    try await lab.wait("all links again") { $0.state == .attached && $0.losses == 1 && $0.links == 3 }
    #expect(servers[1].facts.connected == 0)
    // The kernel has one socket, however many there are behind the relay.
    #expect(lab.kernel.driver.requests.first?.socketCount == 1)
    #expect(lab.kernel.driver.requests.first?.serverFlags.map { $0 & 0x100 } == 0)
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a server that takes less in a request, or one connection only, is no other device")
  func lesserServer() async throws {
    let (directory, servers, uris) = try servers()
    let lab = try RelayLab(uris[0]) { $0.connections = 2 }
    try await lab.start()
    servers[0].crash()
    servers[0].behave { behaviour in
      behaviour.offer.flags.remove(.canMultiConn)
      behaviour.offer.blockSizes = BlockSizes(minimum: 512, preferred: 512, maximumPayload: 1024)
    }
    try servers[0].restart()
    try await lab.wait("attached again") { $0.state == .attached && $0.losses > 0 && $0.links == 1 }
    let driver = try lab.driver()
    #expect(try await driver.write(Self.block, at: 0) == nil)
    #expect(try await driver.read(at: 0, count: 4096) == Self.block)
    #expect(lab.worker.statistics?.split == 2)
    await lab.worker.stop()
    #expect(servers[0].facts.violations == [])
    withExtendedLifetime(directory) {}
  }

  @Test("what is larger than a server takes is cut between its blocks")
  func oddMaximum() async throws {
    let (directory, servers, uris) = try servers()
    servers[0].behave {
      $0.offer.blockSizes = BlockSizes(minimum: 4096, preferred: 4096, maximumPayload: 70_000)
    }
    let lab = try RelayLab(uris[0])
    try await lab.start()
    #expect(await lab.worker.report.blockSize == 4096)
    let driver = try lab.driver()
    let bytes = (0..<262_144).map { UInt8(truncatingIfNeeded: $0 >> 8) }
    #expect(try await driver.write(bytes, at: 8192) == nil)
    #expect(try await driver.read(at: 8192, count: bytes.count) == bytes)
    await lab.worker.stop()
    let writes = servers[0].requests.map(\.request).filter { $0.command == .write }
    #expect(writes.count == 4 && writes.allSatisfy { $0.length % 4096 == 0 && $0.length <= 70_000 })
    #expect(servers[0].facts.violations == [])
    withExtendedLifetime(directory) {}
  }

  @Test("without a server for the reconnect-timeout I/O fails, and succeeds again with the server")
  func givingUp() async throws {
    let (directory, servers, uris) = try servers()
    let lab = try RelayLab(uris[0]) { $0.reconnectTimeout = .milliseconds(300) }
    try await lab.start()
    let driver = try lab.driver()
    servers[0].crash()
    #expect(try await driver.readError(at: 0) == .inputOutput)
    try await lab.wait(for: .waiting)
    #expect(try await driver.readError(at: 0) == .inputOutput)
    try servers[0].restart()
    try await lab.wait("attached again") { $0.state == .attached && $0.losses > 0 }
    #expect(try await driver.readError(at: 0) == nil)
    #expect(lab.commands == [.connect])
    await lab.worker.stop()
    withExtendedLifetime(directory) {}
  }

  @Test("a reconnect-timeout that is declared during an outage, and has passed already, ends the waiting")
  func givingUpAfterAll() async throws {
    let (lab, read) = try await heldRead()
    var spec = await lab.worker.spec
    spec.reconnectTimeout = .milliseconds(1)
    await lab.worker.update(spec)
    #expect(try await read.value == .inputOutput)
    await lab.worker.stop()
  }

  /// A device whose server is gone for good, and a read that waits for it.
  private func heldRead() async throws -> (RelayLab, Task<ErrorCode?, any Error>) {
    let (directory, servers, uris) = try servers()
    let lab = try RelayLab(uris[0])
    try await lab.start()
    let driver = try lab.driver()
    servers[0].crash()
    withExtendedLifetime(directory) {}
    try await lab.wait(for: .reconnecting)
    let read = Task { try await driver.readError(at: 0) }
    try await eventually("the request is with the relay") { lab.worker.statistics?.queueDepth == 1 }
    return (lab, read)
  }

  @Test("a stop while I/O is held lets the device go, and what waits fails")
  func stopWhileHolding() async throws {
    let (lab, read) = try await heldRead()
    await lab.worker.stop()
    #expect(try await read.value == .inputOutput)
    #expect(lab.commands == [.connect, .disconnect])
    #expect(await lab.worker.report.state == .stopped)
  }

  @Test("a device that somebody else takes away comes back, with what its server has acknowledged")
  func takenAway() async throws {
    let (directory, servers, uris) = try servers()
    let lab = try RelayLab(uris[0])
    try await lab.start()
    try await lab.driver().write(Self.block, at: 0)
    _ = try await lab.kernel.driver.netlink.disconnect(index: RelayLab.index, within: .seconds(5))
    try await lab.wait("attached again") { $0.state == .attached && $0.losses > 0 }
    #expect(try await lab.driver().read(at: 0, count: 4096) == Self.block)
    #expect(lab.kernel.driver.linksUp(of: RelayLab.index) == 1)
    await lab.worker.stop()
    #expect(servers[0].facts.violations == [])
    withExtendedLifetime(directory) {}
  }

  @Test("the classic interface holds I/O too: its NBD_DO_IT never sees the server's end")
  func classic() async throws {
    let (directory, servers, uris) = try servers()
    var spec = AttachmentSpec(name: "data", servers: [uris[0]])
    spec.connections = 1
    spec.retry = RetryPolicy(initial: .milliseconds(10), maximum: .milliseconds(50))
    let device = FakeDevice(number: 3, interface: .ioctl)
    let lab = RelayLab(try NetlinkLab(), spec, inner: device)
    try await lab.start()
    let socket = try #require(device.sockets.first)
    servers[0].crash()
    try await lab.wait(for: .reconnecting)
    async let answer = DriverSide(socket).read(at: 0, count: 512)
    try servers[0].restart()
    #expect(try await answer.count == 512)
    #expect(device.parameters.count == 1 && device.parameters.first?.requestTimeout == nil)
    await lab.worker.stop()
    #expect(device.releases == 1)
    withExtendedLifetime(directory) {}
  }
}
