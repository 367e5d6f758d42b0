import AttachmentModel
import FakeDriver
import Glibc
import LinuxKernel
import Testing

@testable import Attachment

@Suite("a device of netlink's is let go")
struct NetlinkReleaseTests {
  private let lab: NetlinkLab

  init() throws { lab = try NetlinkLab() }

  @Test("what the kernel caches is written out first, over links that are up, which take their leave")
  func writtenOut() async throws {
    try lab.driver.addNode(5000)
    let (device, pairs) = try await lab.bound()
    try await device.release(timeout: .seconds(60))
    #expect(lab.driver.requests.last?.linksUp == 1)
    #expect(lab.driver.requests.last?.command == .disconnect)
    #expect(pairs[0].hasEnded)
    #expect(lab.losses == [])
  }

  @Test("the number is given back with the limits that it had before")
  func limits() async throws {
    lab.driver.add(5000)
    lab.driver.write("512", to: "queue/max_sectors_kb", of: 5000)
    let (device, _) = try await lab.bound { $0.maximumRequest = 64 << 10 }
    lab.driver.write("64", to: "queue/max_sectors_kb", of: 5000)
    try await device.release(timeout: .seconds(60))
    #expect(lab.setting("queue/max_sectors_kb") == "512")
    #expect(lab.setting("queue/io_timeout") == "30000")
  }

  @Test("what can't be written out is not waited for: the links are shut down before DISCONNECT, and nothing is told")
  func release() async throws {
    let (device, pairs) = try await lab.bound()
    // There is no node of that number, so that nothing can be written out.
    try await device.release(timeout: .seconds(60))
    #expect(lab.driver.requests.map(\.command) == [.connect, .disconnect])
    #expect(lab.driver.requests.last?.linksUp == 0)
    #expect(!device.isAlive && device.linkCount == 0)
    #expect(pairs[0].hasEnded)
    #expect(lab.driver.sysfs.backend(of: 5000) == nil)
    #expect(lab.losses == [])
    // The number is kept for as long as the device is.
    #expect(lab.kernel.registry.reserve(5000, for: "other") == "data")
  }

  @Test("a device without links is disconnected too, so that who waits for its I/O hears of it")
  func releaseWithoutLinks() async throws {
    let (device, pairs) = try await lab.bound()
    pairs[0].end()
    try await lab.waitForLosses([LinkLoss(remaining: 0, holdsIO: true)])
    try await device.release(timeout: .seconds(60))
    #expect(lab.driver.requests.last?.command == .disconnect)
  }

  @Test("a device that the kernel keeps for its openers is said not to be let go of")
  func keptOpen() async throws {
    let (device, _) = try await lab.bound()
    lab.driver.setOpen(5000, true)
    let problem = try await failure { () throws(Failure) in try await device.release(timeout: .milliseconds(1)) }
    #expect(problem.phase == .detaching && problem.errnoCode == EBUSY)
  }

  @Test("left to the kernel, it goes on with its links, and nothing is told of them any more")
  func letGo() async throws {
    let (device, pairs) = try await lab.bound()
    await device.letGo(within: .seconds(1))
    #expect(!pairs[0].hasEnded)
    #expect(lab.driver.requests.map(\.command) == [.connect])
    pairs[0].end()
    lab.kernel.audit()
    device.driverSaysLinkDead()
    #expect(lab.losses == [])
  }

  @Test("its number is free once nobody has it any more")
  func forgotten() async throws {
    try await lab.bound().0.letGo(within: .seconds(1))
    #expect(lab.kernel.registry.reserve(5000, for: "other") == "data")
    lab.forget()
    // A thread that has just set its limits may keep it for a moment.
    try await eventually("the number is free") { lab.kernel.registry.reserve(5000, for: "other") == nil }
  }

  @Test("devices that are ours are found by their backend, those of others are not")
  func found() async throws {
    lab.driver.addConnected(5003, backend: "nbdattach:b")
    lab.driver.addConnected(5001, backend: "nbdattach:a")
    lab.driver.addConnected(5002, backend: "somebody")
    lab.driver.add(5004)
    #expect(lab.kernel.bound().map { "\($0.index) \($0.name)" } == ["5001 a", "5003 b"])
    try await lab.kernel.disconnect(5003)
    #expect(lab.kernel.bound().map(\.index) == [5001])
    let problem = try await failure { () throws(Failure) in try await lab.kernel.disconnect(5009) }
    #expect(problem.errnoCode == EINVAL)
  }
}
