import AttachmentModel
import FakeDriver
import Glibc
import LinuxKernel
import NBDProtocol
import Synchronization
import Testing

@testable import Attachment

/// Devices of netlink's over a fake driver. Numbers are such as no machine has, so that no real device is ever opened.
final class NetlinkLab: Sendable {
  let directory: TemporaryDirectory
  let driver: FakeDriver
  let kernel: NetlinkKernel
  private let told = Mutex<[LinkLoss]>([])
  /// Open until the lab goes, with the devices that have their links.
  private let pairs = Mutex<[Pair]>([])
  private let devices = Mutex<[NetlinkDevice]>([])

  init() throws {
    directory = try TemporaryDirectory()
    driver = FakeDriver(root: directory.path)
    kernel = NetlinkKernel(
      netlink: driver.netlink, registry: DeviceRegistry(sysfs: driver.sysfs), nodes: directory.path)
    driver.announceDeaths { [kernel] index in kernel.take(.linkDead(index: index)) { _ in } }
  }

  /// What the callback `losses` was told, in order.
  var losses: [LinkLoss] { told.withLock { $0 } }

  var onLoss: @Sendable (LinkLoss) -> Void { { [self] loss in told.withLock { $0.append(loss) } } }

  func waitForLosses(_ losses: [LinkLoss]) async throws {
    try await eventually("the losses \(losses), and not \(self.losses)") { self.losses == losses }
  }

  func pair() throws(Failure) -> Pair {
    do {
      let pair = try Pair()
      pairs.withLock { $0.append(pair) }
      return pair
    } catch {
      throw Failure(.connecting, "no socketpair: \(error)", advice: .giveUp)
    }
  }

  /// No device of the lab's is kept any more.
  func forget() { devices.withLock { $0 = [] } }

  func device(_ name: String = "data", _ selection: DeviceSelection = .index(5000)) -> NetlinkDevice {
    NetlinkDevice(name: name, selection: selection, kernel: kernel)
  }

  /// One that is bound to new pairs, with the servers' ends of these.
  func bound(
    links count: Int = 1, _ adjust: (inout DeviceParameters) -> Void = { _ in }
  ) async throws -> (NetlinkDevice, [Pair]) {
    let device = device()
    devices.withLock { $0.append(device) }
    let pairs = try (0..<count).map { _ throws(Failure) in try pair() }
    try await device.bind(pairs.map(\.link), parameters(adjust), .replacingLost, onLoss: onLoss)
    return (device, pairs)
  }

  func parameters(_ adjust: (inout DeviceParameters) -> Void = { _ in }) -> DeviceParameters {
    var parameters = DeviceParameters(
      blockSize: 4096, size: 1 << 20, maximumRequest: 32 << 20, flags: [.hasFlags, .sendFlush], requestTimeout: nil)
    adjust(&parameters)
    return parameters
  }

  /// The record of a device 5000 with so many links that a former process left.
  func record(links: Int, reconnectTimeout: Duration? = nil) -> DeviceRecord {
    let pair = ServerURI(address: .unix(path: "/none"))
    let parameters = parameters { $0.reconnectTimeout = reconnectTimeout }
    return DeviceRecord(
      spec: AttachmentSpec(name: "data", servers: [pair]), index: 5000, interface: .netlink,
      identity: DeviceIdentity(
        server: pair, export: ExportInfo(name: "", size: 1 << 20, flags: [.hasFlags]), parameters: parameters,
        linkCount: links))
  }

  /// A value of the device 5000 in sysfs; what is written there does not shorten a file as it would the kernel's.
  func setting(_ name: String) -> String? {
    readSmallFile("\(directory.path)/block/nbd5000/\(name)").map { String($0.prefix { $0 != "\n" }) }
  }
}

/// A link, and the server at its other end.
final class Pair: Sendable {
  let link: Link
  private let server: OpenFile

  init() throws {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    server = OpenFile(FileDescriptor(owning: ends[1]))
    link = Link(
      socket: OpenFile(FileDescriptor(owning: ends[0])), server: ServerURI(address: .unix(path: "/none")), peer: "",
      export: ExportInfo(name: "", size: 1 << 20, flags: [.hasFlags]))
  }

  /// The server closes.
  func end() { Socket.shutDown(server.number) }

  /// The server says that it sends nothing more.
  func endHalf() { shutdown(server.number, Int32(SHUT_WR)) }

  /// Our end, or the kernel's, has shut the link down.
  var hasEnded: Bool { DescriptorWatcher.hasEnded(server.number) }
}

func bind(
  _ device: NetlinkDevice, _ pairs: [Pair], in lab: NetlinkLab, _ placement: LinkPlacement = .replacingLost,
  _ adjust: (inout DeviceParameters) -> Void = { _ in }
) async throws(Failure) {
  try await device.bind(pairs.map(\.link), lab.parameters(adjust), placement, onLoss: lab.onLoss)
}
