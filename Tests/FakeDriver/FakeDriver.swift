import Foundation
import Glibc
package import LinuxKernel
import Synchronization

/// A kernel with the nbd driver, as far as netlink and sysfs show it: a directory in place of /sys, and answers that
/// follow from the requests before (drivers/block/nbd.c).
///
/// Its devices hold duplicates of the sockets that they are given. Concurrency model: `state` is shared by the threads
/// that make calls and the test, under its mutex.
package final class FakeDriver: Sendable {
  private struct FakeLink {
    let file: OpenFile
    var token: DescriptorWatcher.Token?
    /// The driver has noticed its end; only then does it take another in its place.
    var isDead = false
  }

  private struct Device {
    var links: [FakeLink] = []
    var backend: String?
    var isConnected = false
    /// Somebody has it open: it stays bound after a DISCONNECT.
    var isOpen = false
  }

  private struct State {
    var devices: [Int: Device] = [:]
    var requests: [FakeRequest] = []
    var refusal: @Sendable (FakeRequest) -> Int32? = { _ in nil }
    var announce: @Sendable (Int) -> Void = { _ in }
  }

  /// In place of /sys.
  package let root: String
  private let state = Mutex(State())
  private let pool = BlockingThreadPool(name: "fake-driver", threads: 4)

  /// Its files are in the directory `root`; the owner removes them.
  package init(root: String) { self.root = root }

  package var sysfs: NBDSysfs { NBDSysfs(root: root) }
  package var netlink: NBDNetlink {
    NBDNetlink(pool: pool) { () throws(SystemCallError) in FakeChannel(driver: self) }
  }

  /// What reached the family, in order.
  package var requests: [FakeRequest] { state.withLock { $0.requests } }

  /// How many links of the device the driver holds, dead ones too.
  package func linkCount(of index: Int) -> Int { state.withLock { $0.devices[index]?.links.count ?? 0 } }

  /// How many of them are up.
  package func linksUp(of index: Int) -> Int {
    state.withLock { $0.devices[index]?.links.count { !DescriptorWatcher.hasEnded($0.file.number) } ?? 0 }
  }

  /// How many of them the driver has noticed to be dead.
  package func deadLinks(of index: Int) -> Int {
    state.withLock { $0.devices[index]?.links.count(where: \.isDead) ?? 0 }
  }

  /// The driver's newest socket of that device that is up, to send and receive on as the driver would.
  package func socket(of index: Int) -> OpenFile? {
    state.withLock { $0.devices[index]?.links.last { !DescriptorWatcher.hasEnded($0.file.number) }?.file }
  }

  /// The driver's own end of a link has this socket.
  package func holds(_ socket: OpenFile, in index: Int) -> Bool {
    state.withLock { state in
      state.devices[index]?.links.contains { identity(of: $0.file.number) == identity(of: socket.number) } ?? false
    }
  }

  /// From now on requests for which `refusal` gives an errno are answered with it, and have no effect.
  package func refuse(_ refusal: @escaping @Sendable (FakeRequest) -> Int32?) {
    state.withLock { $0.refusal = refusal }
  }

  /// From now on `announce` is called with the device's index for each link that dies, as LINK_DEAD would be sent.
  package func announceDeaths(_ announce: @escaping @Sendable (Int) -> Void) {
    state.withLock { $0.announce = announce }
  }

  /// Makes a device that nobody has.
  package func add(_ index: Int) {
    state.withLock { state in
      state.devices[index] = Device()
      writeFacts(of: index, size: 0)
    }
  }

  /// Makes a device that was connected before this process, with these links.
  package func addConnected(_ index: Int, backend: String?, size: UInt64 = 1 << 20, links: [OpenFile] = []) {
    state.withLock { state in
      // What died before was announced before.
      let links = links.compactMap { link(to: $0.number, of: index, isDead: DescriptorWatcher.hasEnded($0.number)) }
      state.devices[index] = Device(links: links, backend: backend, isConnected: true)
      writeFacts(of: index, size: size)
      writeBinding(of: index, backend)
    }
  }

  /// Gives the device a node in the directory, which can be written out, and read unless `isReadable` is false.
  package func addNode(_ index: Int, isReadable: Bool = true) throws {
    try Data(count: isReadable ? 1 << 20 : 0).write(to: URL(fileURLWithPath: "\(root)/nbd\(index)"))
  }

  /// Somebody opens the device, or closes it.
  package func setOpen(_ index: Int, _ isOpen: Bool) {
    state.withLock { state in
      state.devices[index]?.isOpen = isOpen
      if !isOpen, state.devices[index]?.isConnected == false { unbind(index, &state) }
    }
  }

  /// Writes a file of the device's directory in sysfs.
  package func write(_ text: String, to file: String, of index: Int) {
    let path = "\(root)/block/nbd\(index)/\(file)"
    let directory = URL(fileURLWithPath: path).deletingLastPathComponent()
    try? FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    try? Data((text + "\n").utf8).write(to: URL(fileURLWithPath: path), options: .atomic)
  }

  // MARK: The family's commands

  func answer(_ request: FakeRequest, _ sockets: [Int32]) -> Int32 {
    let (received, refusal) = state.withLock { state in
      var received = request
      let links = request.index.flatMap { state.devices[$0]?.links } ?? []
      received.linksUp = links.count { !DescriptorWatcher.hasEnded($0.file.number) }
      state.requests.append(received)
      return (received, state.refusal)
    }
    // It may ask this driver.
    if let code = refusal(received) { return code }
    return state.withLock { state in
      switch request.command {
      case .connect: return connect(request, sockets, &state)
      case .reconfigure: return reconfigure(request, sockets, &state)
      case .disconnect: return disconnect(request, &state)
      }
    }
  }

  private func connect(_ request: FakeRequest, _ sockets: [Int32], _ state: inout State) -> Int32 {
    guard let index = request.index, let size = request.size, !sockets.isEmpty else { return EINVAL }
    if let device = state.devices[index], device.isConnected || device.backend != nil || device.isOpen { return EBUSY }
    let links = sockets.compactMap { link(to: $0, of: index) }
    state.devices[index] = Device(links: links, backend: request.backend, isConnected: true)
    writeFacts(of: index, size: size, blockSize: request.blockSize ?? 1024, flags: request.serverFlags ?? 0)
    writeBinding(of: index, request.backend)
    return 0
  }

  private func reconfigure(_ request: FakeRequest, _ sockets: [Int32], _ state: inout State) -> Int32 {
    guard let index = request.index, var device = state.devices[index], device.isConnected,
      device.backend == request.backend
    else { return EINVAL }
    for socket in sockets {
      // Without a dead link the new one is dropped, and nobody told.
      guard let place = device.links.firstIndex(where: \.isDead), let link = link(to: socket, of: index) else {
        continue
      }
      device.links[place] = link
    }
    state.devices[index] = device
    if let size = request.size { write("\(size / 512)", to: "size", of: index) }
    return 0
  }

  private func disconnect(_ request: FakeRequest, _ state: inout State) -> Int32 {
    guard let index = request.index, let device = state.devices[index] else { return EINVAL }
    for link in device.links {
      if let token = link.token { DescriptorWatcher.shared.unwatch(token) }
      Socket.shutDown(link.file.number)
    }
    state.devices[index]?.isConnected = false
    state.devices[index]?.links = []
    if !device.isOpen { unbind(index, &state) }
    return 0
  }

  private func link(to socket: Int32, of index: Int, isDead: Bool = false) -> FakeLink? {
    guard let file = OpenFile.duplicating(socket) else { return nil }
    if isDead { return FakeLink(file: file, isDead: true) }
    let token = try? DescriptorWatcher.shared.watch(file.number, for: .ended) { [weak self] in
      self?.died(file, of: index)
    }
    return FakeLink(file: file, token: token)
  }

  private func died(_ file: OpenFile, of index: Int) {
    let announce = state.withLock { state -> (@Sendable (Int) -> Void)? in
      guard let place = state.devices[index]?.links.firstIndex(where: { $0.file === file }) else { return nil }
      state.devices[index]?.links[place].isDead = true
      return state.announce
    }
    announce?(index)
  }

  private func unbind(_ index: Int, _ state: inout State) {
    state.devices[index]?.backend = nil
    for file in ["backend", "pid"] { unlink("\(root)/block/nbd\(index)/\(file)") }
    write("0", to: "size", of: index)
  }

  private func writeFacts(of index: Int, size: UInt64, blockSize: UInt64 = 512, flags: UInt64 = 1) {
    write("43:\(index)", to: "dev", of: index)
    write("\(size / 512)", to: "size", of: index)
    write(flags & 2 == 0 ? "0" : "1", to: "ro", of: index)
    write("\(blockSize)", to: "queue/logical_block_size", of: index)
    // A number keeps its limits from one user to the next.
    guard readSmallFile("\(root)/block/nbd\(index)/queue/max_sectors_kb") == nil else { return }
    write("128", to: "queue/max_sectors_kb", of: index)
    write("", to: "queue/io_timeout", of: index)
  }

  private func writeBinding(of index: Int, _ backend: String?) {
    write("1", to: "pid", of: index)
    if let backend { write(backend, to: "backend", of: index) }
  }
}

/// The same for all duplicates of an open file.
private func identity(of number: Int32) -> UInt64? {
  var status = stat()
  return fstat(number, &status) == 0 ? UInt64(status.st_ino) : nil
}
