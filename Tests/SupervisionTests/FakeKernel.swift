import Attachment
import AttachmentModel
import LinuxKernel
import Synchronization

/// A kernel whose devices are only remembered: links are negotiated with real servers and then held.
///
/// Concurrency model: `state` is shared by the workers and the test, under its mutex.
final class FakeKernel: Sendable {
  private struct State {
    var events: [String] = []
    var bound: [String: FakeDevice] = [:]
    var nextIndex = 0
    var isHoldingOn = false
    var heldReleases: [CheckedContinuation<Void, Never>] = []
  }

  private let state = Mutex(State())

  var makeDevice: @Sendable (AttachmentSpec) -> any KernelDevice {
    { spec in FakeDevice(spec, self) }
  }

  /// `bind NAME` and `release NAME`, in their order.
  var events: [String] { state.withLock { $0.events } }

  /// Devices that are bound now.
  var boundCount: Int { state.withLock { $0.bound.count } }

  /// The link of this attachment breaks.
  func lose(_ name: String) {
    let device = state.withLock { $0.bound.removeValue(forKey: name) }
    device?.end(tellingLoss: true)
  }

  /// From now on no device is let go, until this is set back.
  func holdOn(_ isHoldingOn: Bool) {
    let released = state.withLock { state in
      state.isHoldingOn = isHoldingOn
      defer { if !isHoldingOn { state.heldReleases = [] } }
      return isHoldingOn ? [] : state.heldReleases
    }
    for continuation in released { continuation.resume() }
  }

  fileprivate func bind(_ device: FakeDevice, _ spec: AttachmentSpec) -> Int {
    state.withLock { state in
      state.events.append("bind \(spec.name)")
      state.bound[spec.name] = device
      if case .index(let index) = spec.device { return index }
      defer { state.nextIndex += 1 }
      return state.nextIndex
    }
  }

  fileprivate func release(_ name: String) async {
    guard state.withLock({ $0.bound.removeValue(forKey: name) != nil }) else { return }
    await withCheckedContinuation { continuation in
      let goesOn = state.withLock { state in
        if state.isHoldingOn { state.heldReleases.append(continuation) }
        return !state.isHoldingOn
      }
      if goesOn { continuation.resume() }
    }
    state.withLock { $0.events.append("release \(name)") }
  }
}

/// A device of the classic interface: it is gone when its link is.
final class FakeDevice: KernelDevice {
  private struct Binding {
    let links: [Link]
    var onLoss: @Sendable (LinkLoss) -> Void
  }

  private let spec: AttachmentSpec
  private let kernel: FakeKernel
  private let binding = Mutex<Binding?>(nil)
  private let number = Mutex<Int?>(nil)

  fileprivate init(_ spec: AttachmentSpec, _ kernel: FakeKernel) {
    self.spec = spec
    self.kernel = kernel
  }

  var interface: KernelInterface { .ioctl }
  var index: Int? { number.withLock { $0 } }
  var isAlive: Bool { linkCount > 0 }
  var linkCount: Int { sockets.count }
  var sockets: [OpenFile] { binding.withLock { $0?.links.map(\.socket) ?? [] } }

  func bind(
    _ links: [Link], _ parameters: DeviceParameters, _ placement: LinkPlacement,
    onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) {
    binding.withLock { $0 = Binding(links: links, onLoss: onLoss) }
    let taken = kernel.bind(self, spec)
    number.withLock { $0 = $0 ?? taken }
  }

  func tellLosses(to body: @escaping @Sendable (LinkLoss) -> Void) { binding.withLock { $0?.onLoss = body } }

  func release(timeout: Duration) async throws(Failure) {
    await kernel.release(spec.name)
    end(tellingLoss: false)
  }

  func stopHoldingIO() async {}

  func holdIO(for reconnectTimeout: Duration?) async throws(Failure) {}

  func letGo(within limit: Duration) async {}

  fileprivate func end(tellingLoss: Bool) {
    let ended = binding.withLock { $0.take() }
    if tellingLoss { ended?.onLoss(LinkLoss(remaining: 0, holdsIO: false)) }
  }
}

/// What the kernel says of how devices are used, in a directory instead of /sys and /proc.
final class FakeUses: Sendable {
  private let directory: TemporaryDirectory
  private let mounts = Mutex<[String: String]>([:])

  /// Devices 0 to 9 exist.
  init() throws {
    directory = try TemporaryDirectory()
    for index in 0..<10 { try directory.write("43:\(index)\n", to: "sys/block/nbd\(index)/dev") }
    try writeMounts()
    try swap(on: [])
  }

  var sysfs: NBDSysfs { NBDSysfs(root: "\(directory.path)/sys") }
  var procfs: String { "\(directory.path)/proc" }

  func mount(_ index: Int, at point: String) throws {
    mounts.withLock { $0["43:\(index)"] = point }
    try writeMounts()
  }

  func unmount(_ index: Int) throws {
    mounts.withLock { $0["43:\(index)"] = nil }
    try writeMounts()
  }

  func swap(on indexes: [Int]) throws {
    let lines = indexes.map { "/dev/nbd\($0) partition 1048572 0 -2\n" }
    try directory.write("Filename Type Size Used Priority\n" + lines.joined(), to: "proc/swaps")
  }

  private func writeMounts() throws {
    let lines = mounts.withLock { $0 }.map { "36 35 \($0.key) / \($0.value) rw,noatime shared:1 - ext4 /dev/x rw\n" }
    try directory.write("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + lines.joined(), to: "proc/self/mountinfo")
  }
}
