import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("a worker", .requires(.nbdkit))
struct AttachmentWorkerTests {
  @Test("attaches, says what it has, and detaches in order")
  func attach() async throws {
    let server = try await ServerProcess.nbdkit("pattern", "1M")
    let recorder = Recorder(server.uri("disk"), number: 3)
    await recorder.worker.start()
    let report = try await recorder.wait(for: .attached)
    #expect(report.device == "/dev/nbd3")
    #expect(report.server == "\(server.uri("disk"))")
    #expect(report.export == "disk")
    #expect(report.size == 1 << 20)
    #expect(report.isReadOnly == true)
    #expect(report.blockSize == 512)
    #expect(report.kernelInterface == .ioctl && report.datapath == .direct)
    #expect(report.links == 1 && report.attempts == 0 && report.losses == 0)
    #expect(report.failure == nil)

    let link = try #require(recorder.device.link)
    #expect(try await Client().read(link, offset: 4096, length: 512) == pattern(offset: 4096, count: 512))

    await recorder.worker.stop()
    #expect(await recorder.worker.report.state == .stopped)
    #expect(await recorder.worker.report.device == nil)
    #expect(recorder.states == [.stopped, .connecting, .attached, .detaching, .stopped])
    #expect(recorder.device.releases == 1)
    try await server.waitForLog("NBD_CMD_DISC")
    recorder.checkOrder()
  }

  @Test("a stop that the kernel does not follow says so, whichever call failed")
  func failingRelease() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri())
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    recorder.device.failReleases(with: Failure(.binding, "disconnect: timed out", advice: .retry))
    await recorder.worker.stop()
    let report = await recorder.worker.report
    #expect(report.state == .stopped)
    #expect(report.failure?.phase == .detaching && report.failure?.message == "disconnect: timed out")
  }

  @Test("says each step of a try while it is at it")
  func steps() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri())
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    let steps = recorder.observations.compactMap(\.report.activity)
    let path = "\(server.directory.path)/socket"
    #expect(steps.first == "connecting to \(path)")
    #expect(steps.contains("negotiating with \(path)"))
    #expect(steps.last == "binding")
    await recorder.worker.stop()
  }

  @Test("reconnects after the device's end, and the device is the same one")
  func deviceEnd() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri())
    await recorder.worker.start()
    for loss in 1...5 {
      try await recorder.wait("\(loss) attachments") { $0.state == .attached && $0.losses == loss - 1 }
      recorder.device.lose(errnoCode: EPIPE)
      let report = try await recorder.wait("loss \(loss)") { $0.losses == loss }
      #expect(report.failure?.phase == .serving)
      #expect(report.failure?.errnoCode == EPIPE)
      #expect(report.failure?.message.contains("\(server.uri())") == true)
    }
    let report = try await recorder.wait("the last attachment") { $0.state == .attached && $0.losses == 5 }
    #expect(report.failure == nil)
    #expect(recorder.devices == 1)
    #expect(recorder.device.parameters.count == 6)
    await recorder.worker.stop()
    recorder.checkOrder()
  }

  @Test("a device that ends before its binding was told counts as lost, and is bound again")
  func earlyEnd() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri(), script: [.endsAtOnce, .endsAtOnce])
    await recorder.worker.start()
    try await recorder.wait("the third attachment") { $0.state == .attached && $0.losses == 2 }
    #expect(recorder.device.link != nil)
    await recorder.worker.stop()
    recorder.checkOrder()
  }

  @Test("a server that is killed and started again is found again")
  func serverReturns() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri())
    await recorder.worker.start()
    try await recorder.wait(for: .attached)
    let before = recorder.observations.count
    server.end(SIGKILL)
    let lost = try await recorder.wait("a try that fails", { $0.failure?.phase == .connecting })
    #expect(lost.failure?.errnoCode == ECONNREFUSED)
    #expect(lost.state == .waiting)
    #expect(lost.device == "/dev/nbd0")

    let next = try await ServerProcess.nbdkit("memory", "1M", in: server.directory)
    let report = try await recorder.wait(for: .attached, skipping: before)
    #expect(report.losses == 1 && report.attempts == 0)
    #expect(report.device == "/dev/nbd0")
    await recorder.worker.stop()
    try await next.waitForLog("NBD_CMD_DISC")
    recorder.checkOrder()
  }

  @Test("a wrong export is `failed`, until the operator says that it was put right")
  func wrongExport() async throws {
    let strict = ["exportname-strict=true", "exportname=other"]
    let server = try await ServerProcess.nbdkit("--filter=exportname", "memory", "1M", strict[0], strict[1])
    let recorder = Recorder(server.uri("data"))
    await recorder.worker.start()
    let report = try await recorder.wait(for: .failed)
    #expect(report.failure?.advice == .giveUp)
    #expect(report.failure?.message.contains("\"data\"") == true)
    #expect(report.attempts == 1)
    #expect(recorder.device.parameters == [])
    server.end(SIGKILL)

    let right = try await ServerProcess.nbdkit("memory", "1M", in: server.directory)
    await recorder.worker.retry()
    #expect(try await recorder.wait(for: .attached).failure == nil)
    await recorder.worker.stop()
    #expect(recorder.states == [.stopped, .connecting, .failed, .connecting, .attached, .detaching, .stopped])
    recorder.checkOrder()
    _ = right
  }

  @Test("fails over to the next server")
  func failOver() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let absent = ServerURI(address: .unix(path: "\(server.directory.path)/absent"))
    let recorder = Recorder(absent, server.uri("second"))
    await recorder.worker.start()
    let report = try await recorder.wait(for: .attached)
    #expect(report.server == "\(server.uri("second"))")
    #expect(report.export == "second")
    #expect(!recorder.states.contains(.waiting))
    await recorder.worker.stop()
    recorder.checkOrder()
  }

  @Test("a server that hangs does not take the next one's time")
  func failOverFromSilence() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let silent = try Listener(onTCP: "127.0.0.1")
    let recorder = Recorder(silent.uri(), server.uri()) { $0.connectTimeout = .milliseconds(300) }
    await recorder.worker.start()
    #expect(try await recorder.wait(for: .attached).server == "\(server.uri())")
    await recorder.worker.stop()
  }

  @Test("where all servers fail, each says why")
  func allFail() async throws {
    let first = ServerURI(address: .unix(path: "/nonexistent/one"))
    let second = ServerURI(address: .unix(path: "/nonexistent/two"))
    let recorder = Recorder(first, second)
    await recorder.worker.start()
    let message = try #require(try await recorder.wait(for: .waiting).failure?.message)
    #expect(message.contains("\(first)") && message.contains("\(second)"))
    await recorder.worker.stop()
  }

  @Test("without a server it waits longer and longer, counting its tries")
  func waiting() async throws {
    let recorder = Recorder(ServerURI(address: .unix(path: "/nonexistent/nbd.sock")))
    await recorder.worker.start()
    let report = try await recorder.wait("five tries") { $0.state == .waiting && $0.attempts == 5 }
    #expect(report.failure?.errnoCode == ENOENT)
    await recorder.worker.stop()
    let attempts = recorder.observations.filter { $0.previous != nil && $0.report.state == .waiting }
      .map(\.report.attempts)
    #expect(attempts.prefix(5) == [1, 2, 3, 4, 5])
    recorder.checkOrder()
  }

  @Test("a retry policy that changes applies to the next pause")
  func update() async throws {
    let missing = ServerURI(address: .unix(path: "/nonexistent/nbd.sock"))
    let recorder = Recorder(missing) { $0.retry = RetryPolicy(initial: .seconds(3600), maximum: .seconds(3600)) }
    await recorder.worker.start()
    try await recorder.wait(for: .waiting)
    var spec = await recorder.worker.spec
    spec.retry = RetryPolicy(initial: .milliseconds(10), maximum: .milliseconds(10))
    await recorder.worker.update(spec)
    await recorder.worker.retry()
    try await recorder.wait("tries at the new pace") { $0.attempts == 5 }
    await recorder.worker.stop()
    recorder.checkOrder()
  }

  // MARK: What an attachment must be

  @Test("an export of another size than expected is refused, and left in order")
  func expectedSize() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri()) { $0.expectedSize = 2 << 20 }
    await recorder.worker.start()
    let failure = try #require(try await recorder.wait(for: .failed).failure)
    #expect(failure.phase == .comparing)
    #expect(failure.message.contains("1048576") && failure.message.contains("2097152"))
    #expect(recorder.device.parameters == [])
    try await server.waitForLog("NBD_CMD_DISC")
    await recorder.worker.stop()
  }

  @Test("an export that can't be a device is refused", arguments: ["0", "100"])
  func impossibleSize(size: String) async throws {
    let server = try await ServerProcess.nbdkit("null", size)
    let recorder = Recorder(server.uri())
    await recorder.worker.start()
    #expect(try await recorder.wait(for: .failed).failure?.phase == .comparing)
    await recorder.worker.stop()
  }

  @Test("the device is made as the export is: block size, whole blocks, largest request, flags")
  func parameters() async throws {
    let server = try await ServerProcess.nbdkit(
      "--filter=blocksize-policy", "memory", "1048593", "blocksize-minimum=4096", "blocksize-preferred=4096",
      "blocksize-maximum=65536")
    let recorder = Recorder(server.uri()) { spec in
      spec.isReadOnly = true
      spec.requestTimeout = .milliseconds(1500)
    }
    await recorder.worker.start()
    let report = try await recorder.wait(for: .attached)
    let parameters = try #require(recorder.device.parameters.first)
    #expect(parameters.blockSize == 4096)
    #expect(parameters.size == 1 << 20)
    #expect(parameters.maximumRequest == 65536)
    #expect(parameters.flags.contains([.hasFlags, .readOnly, .sendFlush, .sendFUA]))
    #expect(!parameters.flags.contains(.canMultiConn))
    #expect(parameters.requestTimeoutInSeconds == 2)
    #expect(report.isReadOnly == true && report.blockSize == 4096 && report.size == 1 << 20)
    await recorder.worker.stop()
  }

  @Test("a device that another program has is said at once; no other server is asked for it")
  func deviceBusy() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let busy = Failure(.binding, "/dev/nbd0 is in use by another program", errnoCode: EBUSY, advice: .giveUp)
    let recorder = Recorder(server.uri(), server.uri("second"), script: [.fails(busy)])
    await recorder.worker.start()
    #expect(try await recorder.wait(for: .failed).failure == busy)
    #expect(recorder.device.parameters.count == 1)
    try await server.waitForLog("NBD_CMD_DISC")
    await recorder.worker.retry()
    try await recorder.wait(for: .attached)
    // A device is kept once it is bound: until then each try may find another interface.
    #expect(recorder.devices == 2)
    await recorder.worker.stop()
    recorder.checkOrder()
  }

  // MARK: Stopping

  @Test("stops while a server keeps it waiting")
  func stopWhileConnecting() async throws {
    let silent = try Listener(onTCP: "127.0.0.1")
    let recorder = Recorder(silent.uri(), silent.uri("second")) { $0.connectTimeout = .seconds(3600) }
    await recorder.worker.start()
    try await recorder.wait("negotiating") { $0.activity?.hasPrefix("negotiating") == true }
    await recorder.worker.stop()
    #expect(recorder.states == [.stopped, .connecting, .detaching, .stopped])
    // The second server was not tried any more.
    #expect(!recorder.observations.contains { $0.report.export == "second" })
  }

  @Test("stops while it waits, and while it has failed", arguments: ["memory", "null"])
  func stopWhilePausing(plugin: String) async throws {
    let server = try await ServerProcess.nbdkit(plugin, "0")
    let missing = ServerURI(address: .unix(path: "\(server.directory.path)/missing"))
    let recorder = Recorder(plugin == "null" ? server.uri() : missing) { $0.retry.initial = .seconds(3600) }
    await recorder.worker.start()
    try await recorder.wait("a pause") { [.waiting, .failed].contains($0.state) }
    await recorder.worker.stop()
    #expect(await recorder.worker.report.nextTry == nil)
    #expect(recorder.states.suffix(2) == [.detaching, .stopped])
    recorder.checkOrder()
  }

  @Test("stops before its first try has begun, twice at once, and when it is stopped already")
  func stopAtOnce() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri())
    await recorder.worker.stop()
    await recorder.worker.start()
    async let first: Void = recorder.worker.stop()
    async let second: Void = recorder.worker.stop()
    _ = await (first, second)
    #expect(await recorder.worker.report.state == .stopped)
    #expect(recorder.device.link == nil)
    recorder.checkOrder()
  }

  @Test("starts again after a stop, with a new device")
  func startAgain() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorder = Recorder(server.uri())
    for round in 1...3 {
      let before = recorder.observations.count
      await recorder.worker.start()
      try await recorder.wait(for: .attached, skipping: before)
      await recorder.worker.stop()
      #expect(recorder.devices == round)
    }
    recorder.checkOrder()
  }
}
