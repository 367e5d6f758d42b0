import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("device numbers")
struct DeviceRegistryTests {
  private let directory: TemporaryDirectory
  private let registry: DeviceRegistry

  /// Numbers that no machine has, so that no real device is ever opened; 5002 is another program's.
  init() throws {
    directory = try TemporaryDirectory()
    registry = DeviceRegistry(sysfs: NBDSysfs(root: directory.path))
    for index in 5000..<5006 { try directory.write(index == 5002 ? "8\n" : "0\n", to: "block/nbd\(index)/size") }
    try directory.write("1\n", to: "block/nbd5002/pid")
  }

  @Test("a number belongs to one attachment until it gives it back")
  func reserve() {
    #expect(registry.reserve(5000, for: "a") == nil)
    #expect(registry.reserve(5000, for: "b") == "a")
    #expect(registry.reserve(5000, for: "a") == nil)
    registry.release(5000, by: "b")
    #expect(registry.reserve(5000, for: "b") == "a")
    registry.release(5000, by: "a")
    #expect(registry.reserve(5000, for: "b") == nil)
  }

  @Test("the free ones are given out in order, without those in use, and none twice")
  func free() {
    let given = (0..<6).map { registry.reserveFree(for: "\($0)", excluding: []) }
    #expect(given == [5000, 5001, 5003, 5004, 5005, nil])
    registry.release(5003, by: "2")
    #expect(registry.reserveFree(for: "x", excluding: [5003]) == nil)
    #expect(registry.reserveFree(for: "x", excluding: []) == 5003)
  }

  @Test("a number that was given back is the first choice again")
  func smallNumbers() {
    for name in ["a", "b", "c"] { _ = registry.reserveFree(for: name, excluding: []) }
    registry.release(5000, by: "a")
    registry.release(5003, by: "c")
    #expect(registry.reserveFree(for: "d", excluding: []) == 5000)
    #expect(registry.reserveFree(for: "e", excluding: []) == 5003)
  }

  @Test("without the module there is none")
  func noModule() throws {
    let registry = DeviceRegistry(sysfs: NBDSysfs(root: try TemporaryDirectory().path))
    #expect(registry.reserveFree(for: "a", excluding: []) == nil)
  }

  // MARK: What a classic device says when it can't be had

  @Test("a device that another program has is not touched; its process is named")
  func busy() async throws {
    let problem = try await bind(.index(5002))
    #expect(problem.errnoCode == EBUSY)
    #expect(problem.advice == .giveUp)
    #expect(problem.message.contains("/dev/nbd5002 is in use by another program (set up by "))
    #expect(problem.message.contains("process 1)"))
    #expect(registry.reserve(5002, for: "other") == nil)
  }

  @Test("a device of another attachment is waited for")
  func reserved() async throws {
    _ = registry.reserve(5001, for: "owner")
    let problem = try await bind(.index(5001))
    #expect(problem.message == "/dev/nbd5001 belongs to attachment owner")
    #expect(problem.advice == .retry)
  }

  @Test("a number beyond the module's says how to have more")
  func missing() async throws {
    let problem = try await bind(.index(6000))
    #expect(problem.errnoCode == ENODEV)
    #expect(problem.hint?.contains("nbds_max=6001") == true)
    #expect(problem.advice == .giveUp)
  }

  @Test(
    "a module that is not loaded is said, whichever device is wanted", arguments: [DeviceSelection.anyFree, .index(0)])
  func notLoaded(selection: DeviceSelection) async throws {
    let registry = DeviceRegistry(sysfs: NBDSysfs(root: try TemporaryDirectory().path))
    let problem = try await bind(selection, registry)
    #expect(problem.message.contains("not loaded"))
    #expect(problem.hint == "modprobe nbd")
  }

  @Test("where all are taken it is tried again")
  func allTaken() async throws {
    for name in 0..<5 { _ = registry.reserveFree(for: "\(name)", excluding: []) }
    let problem = try await bind(.anyFree)
    #expect(problem.message == "all 6 nbd devices are in use")
    #expect(problem.advice == .retry)
  }

  @Test("a node that can't be opened gives its number back")
  func noNode() async throws {
    let problem = try await bind(.anyFree)
    #expect(problem.errnoCode == ENOENT)
    #expect(problem.message.contains("/dev/nbd5000"))
    #expect(registry.reserve(5000, for: "other") == nil)
  }

  /// Fails to bind a classic device; the failure. Letting go of what was never bound is no error.
  private func bind(_ selection: DeviceSelection, _ registry: DeviceRegistry? = nil) async throws -> Failure {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    let other = OpenFile(FileDescriptor(owning: ends[1]))
    defer { withExtendedLifetime(other) {} }
    let export = ExportInfo(name: "", size: 1 << 20, flags: [.hasFlags])
    let server = ServerURI(address: .unix(path: "/none"))
    let link = Link(socket: OpenFile(FileDescriptor(owning: ends[0])), server: server, peer: "", export: export)
    let parameters = DeviceParameters(
      blockSize: 512, size: 1 << 20, maximumRequest: 1 << 20, flags: [.hasFlags], requestTimeout: nil)
    let device = IoctlDevice(name: "data", selection: selection, registry: registry ?? self.registry)
    let problem = try await failure { () throws(Failure) in
      try await device.bind([link], parameters, .replacingLost) { _ in
        Issue.record("a device that was never bound has lost a link")
      }
    }
    #expect(problem.phase == .binding)
    #expect(device.index == nil)
    try await device.release(timeout: .seconds(1))
    return problem
  }
}

@Suite("what a device is told")
struct DeviceParametersTests {
  @Test(
    "a time limit becomes whole seconds, rounded up",
    arguments: [
      (nil, 0), (.zero, 0), (.milliseconds(1), 1), (.seconds(1), 1), (.milliseconds(1001), 2),
      (.seconds(Int64.max), UInt32.max), (.seconds(-5), 0),
    ] as [(Duration?, UInt32)])
  func seconds(limit: Duration?, seconds: UInt32) {
    let parameters = DeviceParameters(blockSize: 512, size: 512, maximumRequest: 512, flags: [], requestTimeout: limit)
    #expect(parameters.requestTimeoutInSeconds == seconds)
  }
}
