import AttachmentModel
import Control
import Glibc
import Testing

@Suite("the daemon ends")
struct DaemonStopTests {
  @Test("a signal ends it in order, with 0", arguments: [SIGTERM, SIGINT])
  func signal(number: Int32) async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    try directory.configure("stop-timeout: 20s")
    try directory.declare(["data: {uri: '\(directory.absent())'}"])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    #expect(try await daemon.end(number) == 0)
    #expect(manager.events == ["READY=1", "STOPPING=1"])
    // The barrier: what was told before has been taken in when the process ends.
    #expect(
      manager.messages.suffix(2) == ["STOPPING=1\nSTATUS=detaching\nEXTEND_TIMEOUT_USEC=35000000", "BARRIER=1"])
    #expect(access("\(directory.path)/control", F_OK) != 0)
  }

  @Test("the signal of a restart ends it too, with 0, and says that the devices are handed over")
  func handOver() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    try directory.configure("stop-timeout: 20s")
    try directory.declare(["data: {uri: '\(directory.absent())'}"])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    #expect(try await daemon.end(SIGUSR1) == 0)
    #expect(manager.events == ["READY=1", "STOPPING=1"])
    #expect(manager.status == "handing the devices over")
    #expect(access("\(directory.path)/control", F_OK) != 0)
  }

  @Test("a restart's signal during the start, or beside that of a stop, ends it as well", arguments: 0..<4)
  func handOverEarly(round: Int) async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let silent = try SilentServer(in: directory)
    try directory.declare(["silent: {uri: '\(silent.uri)', connect-timeout: 1h}"])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await eventually("the control socket is there") { access("\(directory.path)/control", F_OK) == 0 }
    if round % 2 == 1 { daemon.child.signal(SIGTERM) }
    #expect(try await daemon.end(SIGUSR1) == 0)
    #expect(manager.events == ["STOPPING=1"])
  }

  @Test("what an operator has stopped stays so in the next process, and comes back when it is started")
  func operatorStop() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    try directory.declare(["data: {uri: '\(directory.absent())'}", "other: {uri: '\(directory.absent())'}"])
    let first = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    #expect(try await first.command("stop", "data").status == 0)
    #expect(try await first.end(SIGUSR1) == 0)

    let second = try await DaemonProcess.start(in: directory)
    try await second.wait(forStatus: "a stopped one") { status in
      status.attachments.map { "\($0.name) \($0.state)" } == ["data stopped", "other waiting"]
    }
    #expect(try await second.command("start", "data", "--no-wait").status == 0)
    try await second.wait(forStatus: "both at work") { status in
      !status.attachments.contains { $0.state == .stopped } && status.attachments.count == 2
    }
    #expect(try await second.end() == 0)
  }

  @Test("a stop during the start cuts the tries short, and READY is never told")
  func duringStart() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let silent = try SilentServer(in: directory)
    try directory.configure("startup-timeout: 1h")
    try directory.declare((0..<20).map { "silent\($0): {uri: '\(silent.uri)', connect-timeout: 1h}" })
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(forStatus: "the tries") { $0 == "20 connecting (silent0, silent1, silent10 and 17 more)" }
    #expect(try await daemon.end() == 0)
    #expect(manager.events == ["STOPPING=1"])
  }

  @Test("a stop is obeyed as soon as there is anything to leave behind", arguments: 0..<8)
  func early(round: Int) async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let silent = try SilentServer(in: directory)
    try directory.declare(["silent: {uri: '\(silent.uri)', connect-timeout: 1h}"])
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await eventually("the control socket is there") { access("\(directory.path)/control", F_OK) == 0 }
    #expect(try await daemon.end() == 0)
    #expect(manager.events == ["STOPPING=1"])
    #expect(access("\(directory.path)/control", F_OK) != 0)
  }

  @Test("a stop at any moment ends it and leaves no socket behind", arguments: 0..<16)
  func anyMoment(round: Int) async throws {
    let directory = try TemporaryDirectory()
    let daemon = try await DaemonProcess.start(in: directory)
    // Nothing is waited for: each round meets the start at another place.
    try await Task.sleep(for: .milliseconds(round * 2))
    #expect([0, -SIGTERM].contains(try await daemon.end()))
    #expect(access("\(directory.path)/control", F_OK) != 0)
  }

  @Test("a stop during a reload is the last word")
  func duringReload() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    try directory.declare((0..<300).map { "old\($0): {uri: '\(directory.absent())'}" })
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    try directory.declare((0..<300).map { "new\($0): {uri: '\(directory.absent())'}" })
    daemon.child.signal(SIGHUP)
    #expect(try await daemon.end() == 0)
    let events = manager.events
    let reload = ["RELOADING=1", "MONOTONIC_USEC", "READY=1"]
    #expect(events == ["READY=1"] + reload + ["STOPPING=1"] || events == ["READY=1", "STOPPING=1"])
    #expect(manager.status == "detaching")
  }

  @Test("a second signal changes nothing")
  func twice() async throws {
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    try directory.declare((0..<100).map { "data\($0): {uri: '\(directory.absent())'}" })
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    for number in [SIGTERM, SIGINT, SIGHUP, SIGTERM] { daemon.child.signal(number) }
    #expect(try await daemon.child.ended() == 0)
    #expect(manager.events.filter { $0 == "STOPPING=1" }.count == 1)
    #expect(manager.events.last == "STOPPING=1")
  }
}
