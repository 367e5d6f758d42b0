import AttachmentModel
import Glibc
import LinuxKernel
import Testing

@testable import Attachment

@Suite("many workers and long lives", .requires(.nbdkit))
struct ManyWorkersTests {
  @Test("two hundred attach to one server at once, and stop at once")
  func twoHundred() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorders = (0..<200).map { Recorder(server.uri("export\($0)"), number: $0) }
    await withTaskGroup { group in
      for recorder in recorders { group.addTask { await recorder.worker.start() } }
    }
    for (number, recorder) in recorders.enumerated() {
      let report = try await recorder.wait(for: .attached)
      #expect(report.export == "export\(number)")
      #expect(report.device == "/dev/nbd\(number)")
    }
    await withTaskGroup { group in
      for recorder in recorders { group.addTask { await recorder.worker.stop() } }
    }
    for recorder in recorders {
      #expect(recorder.states == [.stopped, .connecting, .attached, .detaching, .stopped])
      recorder.checkOrder()
    }
  }

  @Test("two hundred that lose one server come back to the next, none is left behind")
  func twoHundredLosses() async throws {
    let server = try await ServerProcess.nbdkit("memory", "1M")
    let recorders = (0..<200).map { Recorder(server.uri(), number: $0) }
    for recorder in recorders { await recorder.worker.start() }
    for recorder in recorders { try await recorder.wait(for: .attached) }
    server.end(SIGKILL)
    for recorder in recorders { try await recorder.wait("a try that fails") { $0.failure?.phase == .connecting } }
    let next = try await ServerProcess.nbdkit("memory", "1M", in: server.directory)
    for recorder in recorders {
      try await recorder.wait("the second attachment") { $0.state == .attached && $0.losses == 1 }
    }
    await withTaskGroup { group in
      for recorder in recorders { group.addTask { await recorder.worker.stop() } }
    }
    for recorder in recorders { recorder.checkOrder() }
    try await next.waitForLog("NBD_CMD_DISC")
  }

  // Descriptors belong to the whole process, hence one of its own.
  @Test("losses, failures and stops leave no descriptor behind, and no worker")
  func leaks() async {
    await #expect(processExitsWith: .success) {
      let server = try await ServerProcess.nbdkit("memory", "1M")
      try await liveAndDie(server, losses: 2)
      let before = openFiles()
      try await liveAndDie(server, losses: 40)
      // What Dispatch closes, it closes a little later; the runtime may have opened something of its own.
      try await eventually("as many open files as before: \(before)") { openFiles() < before + 10 }
    }
  }
}

/// One worker through a number of losses, as many stops, and tries that fail in each phase.
private func liveAndDie(_ server: ServerProcess, losses: Int) async throws {
  let silent = try Listener(onTCP: "127.0.0.1")
  let missing = ServerURI(address: .unix(path: "/nonexistent/nbd.sock"))
  weak var gone: AttachmentWorker?
  do {
    let recorder = Recorder(missing, silent.uri(), server.uri()) { $0.connectTimeout = .milliseconds(20) }
    gone = recorder.worker
    for loss in 1...losses {
      if loss.isMultiple(of: 3) { await recorder.worker.stop() }
      await recorder.worker.start()
      try await recorder.wait("attachment \(loss)") { $0.state == .attached && $0.losses == loss - 1 }
      recorder.device.lose()
      try await recorder.wait("loss \(loss)") { $0.losses == loss }
    }
    await recorder.worker.stop()
  }
  try await eventually("the worker is gone") { gone == nil }
}

private func openFiles() -> Int {
  guard let directory = opendir("/proc/self/fd") else { return -1 }
  defer { closedir(directory) }
  var count = 0
  while readdir(directory) != nil { count += 1 }
  return count
}
