package import AttachmentModel
import Glibc
package import LinuxKernel
import NBDProtocol
import Synchronization

/// A device that is bound the classic way: a thread of its own sets it up and stays blocked in NBD_DO_IT for as long
/// as the link lives (drivers/block/nbd.c: NBD_SET_SOCK remembers the calling task, so one thread does all of it).
///
/// Concurrency model: `state` is shared by the worker, the device's thread and the thread that releases it, under its
/// mutex, which is never held during a call that may block. The thread owns the open device and closes it.
package final class IoctlDevice: KernelDevice {
  private enum State {
    /// No thread. Can become: `bound`.
    case unbound
    /// The thread sets the device up or is in NBD_DO_IT. Can become: `unbound`.
    case bound(Session)
  }

  private struct Session {
    let device: Int32
    let socket: OpenFile
    var onLoss: @Sendable (LinkLoss) -> Void
    var releaseWanted = false
    var waiters: [@Sendable () -> Void] = []
  }

  /// What became of setting a device up, told by its thread.
  private enum SetUp: Sendable {
    case running
    case busy
    case failed(SystemCallError)
  }

  private let name: String
  private let selection: DeviceSelection
  private let registry: DeviceRegistry
  package let datapath: Datapath
  private let taken = Mutex<Int?>(nil)
  private let state = Mutex(State.unbound)

  /// How long the kernel may take from NBD_DO_IT to a usable device.
  private static let startLimit: Duration = .seconds(30)
  /// How long the kernel may take to let go once its socket was shut down.
  private static let forcedReleaseLimit: Duration = .seconds(5)

  /// `datapath`: what the socket is that it will be bound to.
  package init(name: String, selection: DeviceSelection, registry: DeviceRegistry, datapath: Datapath = .direct) {
    self.name = name
    self.selection = selection
    self.registry = registry
    self.datapath = datapath
  }

  deinit {
    if let index = taken.withLock({ $0 }) { registry.release(index, by: name) }
  }

  package var interface: KernelInterface { .ioctl }
  package var index: Int? { taken.withLock { $0 } }
  package var isAlive: Bool { linkCount > 0 }
  package var linkCount: Int { sockets.count }
  package var sockets: [OpenFile] {
    state.withLock { state in
      guard case .bound(let session) = state else { return [] }
      return [session.socket]
    }
  }

  // MARK: Binding

  package func bind(
    _ links: [Link], _ parameters: DeviceParameters, _ placement: LinkPlacement,
    onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) {
    guard let link = links.first else { return }
    if placement == .replacingAll {
      throw Failure(
        .binding, "the classic kernel interface can't renew the link of a device in use",
        hint: "restart the attachment while nothing uses it", advice: .giveUp)
    }
    // A device that this attachment had before is the only one it wants: it comes back under the same number.
    if let index {
      return try await bind(index, link, parameters, isOwn: true, onLoss)
    }
    switch selection {
    case .index(let index):
      if let other = registry.reserve(index, for: name) { throw .reserved(index, by: other) }
      do { try await bind(index, link, parameters, isOwn: false, onLoss) } catch {
        registry.release(index, by: name)
        throw error
      }
    case .anyFree:
      try await bindAnyFree(link, parameters, onLoss)
    }
  }

  private func bindAnyFree(
    _ link: Link, _ parameters: DeviceParameters, _ onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) {
    var excluded: Set<Int> = []
    while let index = registry.reserveFree(for: name, excluding: excluded) {
      switch try await setUp(index, link, parameters, onLoss) {
      case .running: return taken.withLock { $0 = index }
      case .busy:
        // Another program was quicker: the next one.
        registry.release(index, by: name)
        excluded.insert(index)
      case .failed(let error):
        registry.release(index, by: name)
        throw .setUp(index, error)
      }
    }
    throw .noFreeDevice(count: registry.sysfs.indexes().count)
  }

  private func bind(
    _ index: Int, _ link: Link, _ parameters: DeviceParameters, isOwn: Bool,
    _ onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) {
    switch registry.sysfs.occupancy(of: index) {
    case .free: break
    case .missing: throw .missingDevice(index, count: registry.sysfs.indexes().count)
    case .inUse(let pid): throw .busy(index, pid: pid, isOwn: isOwn)
    }
    switch try await setUp(index, link, parameters, onLoss) {
    case .running: taken.withLock { $0 = index }
    case .busy: throw .busy(index, pid: nil, isOwn: isOwn)
    case .failed(let error): throw .setUp(index, error)
    }
  }

  /// Starts the device's thread and waits until the device can be used or it is known that it can't.
  private func setUp(
    _ index: Int, _ link: Link, _ parameters: DeviceParameters, _ onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) -> SetUp {
    let result = await withCheckedContinuation { (continuation: CheckedContinuation<SetUp, Never>) in
      do throws(SystemCallError) {
        try BlockingThread.start("nbd\(index)") {
          self.run(index, link.socket, parameters, onLoss) { continuation.resume(returning: $0) }
        }
      } catch {
        continuation.resume(returning: .failed(error))
      }
    }
    guard case .running = result else { return result }
    return try await waitUntilUsable(index)
  }

  /// NBD_DO_IT does not return, so nobody says when it has made the device: its size does (nbd_set_size, called at the
  /// end of nbd_start_device).
  private func waitUntilUsable(_ index: Int) async throws(Failure) -> SetUp {
    let deadline = monotonicNow() + IoctlDevice.startLimit.inSeconds
    var pause: Duration = .milliseconds(1)
    while monotonicNow() < deadline {
      guard case .bound = state.withLock({ $0 }) else {
        return .failed(SystemCallError("ioctl NBD_DO_IT", EIO))
      }
      if registry.sysfs.isUsable(index) { return .running }
      try? await Task.sleep(for: pause)
      pause = min(pause * 2, .milliseconds(50))
    }
    try await release(timeout: .seconds(1))
    return .failed(SystemCallError("ioctl NBD_DO_IT", ETIMEDOUT))
  }

  // MARK: The device's thread

  private func run(
    _ index: Int, _ socket: OpenFile, _ parameters: DeviceParameters,
    _ onLoss: @escaping @Sendable (LinkLoss) -> Void, _ answer: @Sendable (SetUp) -> Void
  ) {
    let number: Int32
    do { number = try FileDescriptor.open("/dev/nbd\(index)", O_RDWR).release() } catch {
      return answer(error.code == EBUSY ? .busy : .failed(error))
    }
    let session: Session
    let code: Int32
    do throws(SystemCallError) {
      (session, code) = try serve(index, NBDDevice(number), socket, parameters, onLoss, answer)
    } catch {
      close(number)
      return answer(error.call == "ioctl NBD_SET_SOCK" && error.code == EBUSY ? .busy : .failed(error))
    }
    // The device is free for the next link only when its last opener has gone: first close, then tell.
    close(number)
    // Which of the two it was is known from what was asked for: NBD_DO_IT returns 0 for nearly everything.
    if !session.releaseWanted {
      session.onLoss(LinkLoss(remaining: 0, holdsIO: false, errnoCode: code == 0 ? nil : code))
    }
    for waiter in session.waiters { waiter() }
  }

  /// From NBD_SET_SOCK to the end of NBD_DO_IT; throws, without having told `answer`, when the set-up fails.
  private func serve(
    _ index: Int, _ device: NBDDevice, _ socket: OpenFile, _ parameters: DeviceParameters,
    _ onLoss: @escaping @Sendable (LinkLoss) -> Void, _ answer: @Sendable (SetUp) -> Void
  ) throws(SystemCallError) -> (Session, Int32) {
    var changedFrom: Int?
    // The number keeps the limit, and its next user may have another server. Only after NBD_CLEAR_SOCK: the kernel waits
    // for the requests in flight before it changes a limit, and that ends those which the lost link left (seen to hang
    // for ever on 6.12).
    defer { if let changedFrom { try? registry.sysfs.setLargestRequest(of: index, kibibytes: changedFrom) } }
    // The number keeps that too, and its next user by netlink could not undo it (block/ioctl.c, blkdev_roset).
    defer { if parameters.flags.contains(.readOnly) { try? device.setReadOnly(false) } }
    try device.setSocket(socket.number)
    // From here on the device is this thread's, and only now may it be cleared.
    defer { try? device.clearSocket() }
    changedFrom = try limitRequests(index, to: parameters.maximumRequest)
    try configure(device, parameters)

    let session = Session(device: device.number, socket: socket, onLoss: onLoss)
    state.withLock { $0 = .bound(session) }
    answer(.running)
    let code = device.doIt()
    try? device.clearQueue()
    return (leaveBound() ?? session, code)
  }

  /// The driver knows no limit of the server's, so that the block layer must keep it: a request above the server's
  /// maximum payload is an I/O error. Returns the limit there was, in KiB, where it had to be lowered.
  private func limitRequests(_ index: Int, to maximum: Int) throws(SystemCallError) -> Int? {
    let kibibytes = maximum >> 10
    guard let usual = registry.sysfs.largestRequest(of: index), kibibytes < usual else { return nil }
    try registry.sysfs.setLargestRequest(of: index, kibibytes: kibibytes)
    return usual
  }

  private func configure(_ device: NBDDevice, _ parameters: DeviceParameters) throws(SystemCallError) {
    let isReadOnly = parameters.flags.contains(.readOnly)
    try device.setBlockSize(parameters.blockSize)
    try device.setSize(blocks: parameters.size / UInt64(parameters.blockSize))
    try device.setTimeout(seconds: parameters.requestTimeoutInSeconds)
    do { try device.setFlags(parameters.flags.rawValue) } catch {
      guard error.code == ENOTTY else { throw error }
    }
    // Also where NBD_SET_FLAGS says it: the number may keep its last user's setting.
    try device.setReadOnly(isReadOnly)
  }

  private func leaveBound() -> Session? {
    state.withLock { state in
      guard case .bound(let session) = state else { return nil }
      state = .unbound
      return session
    }
  }

  // MARK: Letting go

  package func release(timeout: Duration) async throws(Failure) {
    guard let (socket, copy) = beginRelease() else { return }
    if let copy {
      // fsync and NBD_DISCONNECT block on a server that does not answer: a thread of their own waits for them.
      try? BlockingThread.start("nbd-release") {
        let device = NBDDevice(copy.number)
        try? device.flush()
        try? device.disconnect()
      }
    } else {
      Socket.shutDown(socket.number)
    }
    if await ends(within: timeout) { return }
    Socket.shutDown(socket.number)
    if await ends(within: IoctlDevice.forcedReleaseLimit) { return }
    throw .notReleased(index)
  }

  package func tellLosses(to body: @escaping @Sendable (LinkLoss) -> Void) {
    state.withLock { state in
      guard case .bound(var session) = state else { return }
      session.onLoss = body
      state = .bound(session)
    }
  }

  /// Nothing: it never is held.
  package func stopHoldingIO() async {}

  /// Nothing: I/O fails as soon as the link is lost.
  package func holdIO(for reconnectTimeout: Duration?) async throws(Failure) {}

  /// Nothing: the device ends with this process.
  package func letGo(within limit: Duration) async {}

  package func grow(to size: UInt64, blockSize: Int) async throws(Failure) {
    guard let index, let now = registry.sysfs.size(of: index), now < size else { return }
    let copy = state.withLock { state -> OpenFile? in
      guard case .bound(let session) = state else { return nil }
      return OpenFile.duplicating(session.device)
    }
    guard let copy else { return }
    let result = Mutex<SystemCallError?>(SystemCallError("ioctl NBD_SET_SIZE_BLOCKS", ETIMEDOUT))
    // It may wait for I/O in flight. The driver takes a size from any thread (drivers/block/nbd.c, __nbd_ioctl).
    _ = await BlockingThread.run("nbd-grow", within: IoctlDevice.startLimit) {
      do throws(SystemCallError) {
        try NBDDevice(copy.number).setSize(blocks: size / UInt64(max(blockSize, 1)))
        result.withLock { $0 = nil }
      } catch {
        result.withLock { $0 = error }
      }
    }
    if let error = result.withLock({ $0 }) { throw .setUp(index, error) }
  }

  /// The link's socket and a duplicate of the open device, or nothing when no thread runs.
  private func beginRelease() -> (socket: OpenFile, copy: OpenFile?)? {
    state.withLock { state in
      guard case .bound(var session) = state else { return nil }
      session.releaseWanted = true
      state = .bound(session)
      // The thread closes the device only after it has left `bound`, so the number is good in here.
      return (session.socket, OpenFile.duplicating(session.device))
    }
  }

  /// Whether the device's thread has ended, waited for no longer than `timeout`.
  private func ends(within timeout: Duration) async -> Bool {
    await withCheckedContinuation { continuation in
      let answer = FirstAnswer(continuation)
      let mustWait = state.withLock { state in
        guard case .bound(var session) = state else { return false }
        session.waiters.append { answer.give(true) }
        state = .bound(session)
        return true
      }
      guard mustWait else { return answer.give(true) }
      answer.give(false, after: timeout)
    }
  }
}
