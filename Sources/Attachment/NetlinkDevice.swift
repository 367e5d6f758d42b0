package import AttachmentModel
import Dispatch
import Glibc
package import LinuxKernel
import NBDProtocol
import Synchronization

/// A device that generic netlink binds: it lives on in the kernel when its links die, holding I/O until new sockets are
/// put in, and when this process dies.
///
/// It keeps each link's socket: to see its end (DescriptorWatcher), and to end it. Concurrency model: `state` is shared by
/// the worker, the watcher's thread and the thread of the driver's events, under its mutex; `bind` and `release` come
/// from one worker, one at a time.
package final class NetlinkDevice: KernelDevice {
  struct State {
    var index: Int?
    /// The kernel has the device, as far as is known.
    var isAlive = false
    var links: [WatchedLink] = []
    /// Links of a former process that nobody kept a duplicate of: only the driver's events tell of their end.
    var blindLinks = 0
    /// Links when none is lost.
    var wantedLinks = 1
    /// Links that the driver has announced as dead, and that have not been replaced yet.
    var announcedDead = 0
    var deathWaiters: [DeathWaiter] = []
    /// Ends of watched links that the driver's events may still tell of.
    var untoldEnds = 0
    var reconnectTimeout: Duration?
    /// The driver's timers are those of `stopHoldingIO`.
    var hasStoppedHolding = false
    /// The timers are those of a former process, or of one that was about to end.
    var mustTune = false
    /// The largest request of the device number, in KiB, before it was lowered for the server.
    var usualRequest: Int?
    var onLoss: (@Sendable (LinkLoss) -> Void)?
    var silence: SilenceWatch?
    /// Requests that were answered before it was last given links while it had none.
    var answeredBefore: UInt64?

    var linkCount: Int { links.count + blindLinks }
    var holdsIO: Bool { reconnectTimeout != .zero }
  }

  /// Waits until the driver has announced that many.
  struct DeathWaiter {
    let count: Int
    let answer: FirstAnswer<Void>
  }

  struct WatchedLink {
    let socket: OpenFile
    let token: DescriptorWatcher.Token
  }

  let name: String
  private let selection: DeviceSelection
  let kernel: NetlinkKernel
  let state: Mutex<State>
  package let datapath: Datapath

  /// `queue/io_timeout`, in milliseconds. At a relay requests wait while the server is away, and would make the driver log
  /// a line each time that the timer fires; only a process that has died leaves some to be sent again by it.
  private var resendInterval: UInt32 {
    switch datapath {
    case .direct, .ktls: 1000
    case .relay: 5000
    }
  }

  /// How long CONNECT is repeated while the index is busy: udev opens a device when it appears, and the kernel takes a
  /// moment to let go of one.
  private static let busyLimit: Duration = .seconds(10)
  /// How long the driver may take to notice that a socket was shut down. Its announcement can be lost.
  private static let announcementLimit: Duration = .seconds(3)
  /// How much later than the driver's announcement a link's end may be seen here.
  private static let announcementGrace: Duration = .seconds(1)
  /// How long a device that was taken over may take to answer a read.
  private static let probeLimit: Duration = .seconds(10)
  /// For each call into the kernel.
  static let callLimit: Duration = .seconds(30)
  /// How often a DISCONNECT waits for a thread that long.
  static let disconnectTurns = 10

  /// What the kernel knows a device of ours by, also after this process.
  package static func backend(of name: String) -> String { "nbdattach:\(name)" }

  /// `datapath`: what the sockets are that it will be bound to.
  package init(name: String, selection: DeviceSelection, kernel: NetlinkKernel, datapath: Datapath = .direct) {
    self.name = name
    self.selection = selection
    self.kernel = kernel
    self.datapath = datapath
    state = Mutex(State())
  }

  /// A device of a former process, as it was left. `sockets` are duplicates of its links'; of links without one only
  /// the driver's events will tell. The links of a relay have died with their process.
  package init(adopting record: DeviceRecord, sockets: [OpenFile], kernel: NetlinkKernel) {
    name = record.spec.name
    selection = record.spec.device
    self.kernel = kernel
    datapath = record.datapath ?? .direct
    var adopted = State()
    adopted.index = record.index
    adopted.isAlive = true
    adopted.reconnectTimeout = record.identity.parameters.reconnectTimeout
    adopted.wantedLinks = datapath == .relay ? 1 : record.identity.linkCount
    adopted.blindLinks = datapath == .relay ? 0 : max(0, record.identity.linkCount - sockets.count)
    if datapath == .relay {
      adopted.announcedDead = 1
      adopted.mustTune = true
    }
    state = Mutex(adopted)
    _ = kernel.registry.reserve(record.index, for: name)
    guard datapath != .relay else {
      kernel.add(self, at: record.index)
      return
    }
    let living = sockets.filter { !DescriptorWatcher.hasEnded($0.number) }
    // Those that have ended were announced to nobody of this process.
    state.withLock { $0.announcedDead = sockets.count - living.count }
    watch(living)
    kernel.add(self, at: record.index)
    watchSilence(record.identity.parameters)
    probeBlindLinks(within: NetlinkDevice.probeLimit)
  }

  deinit {
    let (index, links) = state.withLock { ($0.index, $0.links) }
    for link in links { DescriptorWatcher.shared.unwatch(link.token) }
    if let index { kernel.forget(index, ownedBy: name) }
  }

  package var interface: KernelInterface { .netlink }
  package var index: Int? { state.withLock { $0.index } }
  package var isAlive: Bool { state.withLock { $0.isAlive } }
  package var linkCount: Int { state.withLock { $0.linkCount } }
  package var sockets: [OpenFile] { state.withLock { $0.links.map(\.socket) } }

  package var hasAnswered: Bool {
    let (index, before) = state.withLock { ($0.index, $0.answeredBefore) }
    guard let index, let before, let now = kernel.registry.sysfs.completedRequests(of: index) else { return true }
    return now > before
  }

  package func tellLosses(to body: @escaping @Sendable (LinkLoss) -> Void) {
    state.withLock { $0.onLoss = body }
    // One may have been lost while nobody listened.
    checkLinks()
  }

  // MARK: Binding

  package func bind(
    _ links: [Link], _ parameters: DeviceParameters, _ placement: LinkPlacement,
    onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) {
    let sockets = links.map(\.socket)
    let isNew: Bool
    if let index, isAlive, kernel.isOurs(index, name) {
      let answered = kernel.registry.sysfs.completedRequests(of: index)
      state.withLock { state in if state.linkCount == 0 { state.answeredBefore = answered } }
      try await reconfigure(index, sockets, parameters, placement)
      isNew = false
    } else {
      state.withLock { $0.isAlive = false }
      endLinks()
      try await connect(sockets, parameters)
      isNew = true
    }
    state.withLock { state in
      state.reconnectTimeout = parameters.reconnectTimeout
      // A renewal may fail yet: until then losses are told to whom they were before.
      if placement == .replacingLost { state.onLoss = onLoss }
    }
    watch(sockets)
    watchSilence(parameters)
    if !isNew { try await growWithLinks(parameters, placement) }
    state.withLock { $0.onLoss = onLoss }
  }

  private func connect(_ sockets: [OpenFile], _ parameters: DeviceParameters) async throws(Failure) {
    if let index { return try await connect(index, sockets, parameters, isOwn: true) }
    switch selection {
    case .index(let index):
      if let other = kernel.registry.reserve(index, for: name) { throw .reserved(index, by: other) }
      do { try await connect(index, sockets, parameters, isOwn: false) } catch {
        kernel.registry.release(index, by: name)
        throw error
      }
    case .anyFree:
      var excluded: Set<Int> = []
      while excluded.count < NetlinkDevice.mostCandidates {
        let index = kernel.registry.reserveFreeOrNew(for: name, excluding: excluded)
        do { return try await connect(index, sockets, parameters, isOwn: false) } catch {
          kernel.registry.release(index, by: name)
          guard error.errnoCode == EBUSY else { throw error }
          excluded.insert(index)
        }
      }
      throw .noFreeDevice(count: kernel.registry.sysfs.indexes().count)
    }
  }

  /// Devices that are tried before all are said to be taken.
  private static let mostCandidates = 8

  private func connect(
    _ index: Int, _ sockets: [OpenFile], _ parameters: DeviceParameters, isOwn: Bool
  ) async throws(Failure) {
    let request = NBDConnectRequest(
      index: index, size: parameters.size, blockSize: UInt64(parameters.blockSize),
      serverFlags: UInt64(parameters.flags.rawValue), timeoutSeconds: parameters.kernelTimeout(links: sockets.count),
      deadConnectionTimeoutSeconds: parameters.deadConnectionTimeout, backend: NetlinkDevice.backend(of: name))
    let deadline = monotonicNow() + NetlinkDevice.busyLimit.inSeconds
    var pause: Duration = .milliseconds(20)
    while true {
      if case .inUse(let pid) = kernel.registry.sysfs.occupancy(of: index), !isOwn {
        throw .busy(index, pid: pid, isOwn: false)
      }
      do throws(NetlinkError) {
        try? limitRequests(index, parameters)
        _ = try await kernel.netlink.connect(request, sockets: sockets, within: NetlinkDevice.callLimit)
        break
      } catch {
        guard error.code == EBUSY, monotonicNow() < deadline else {
          if error.code == EBUSY { throw .busy(index, pid: nil, isOwn: isOwn) }
          throw .netlink(index, error)
        }
      }
      try? await Task.sleep(for: pause)
      pause = min(pause * 2, .milliseconds(500))
    }
    state.withLock { state in
      state.index = index
      state.isAlive = true
      state.blindLinks = 0
      state.wantedLinks = sockets.count
      state.announcedDead = 0
      state.hasStoppedHolding = false
    }
    kernel.add(self, at: index)
    await tune(index, parameters, links: sockets.count)
  }

  /// Sockets first, the size after: together they freeze the queue (drivers/block/nbd.c, nbd_genl_reconfigure).
  private func reconfigure(
    _ index: Int, _ sockets: [OpenFile], _ parameters: DeviceParameters, _ placement: LinkPlacement
  ) async throws(Failure) {
    let backend = NetlinkDevice.backend(of: name)
    // The kernel takes a new socket only in the place of a dead one, and says nothing when it does not.
    if placement == .replacingAll { endLinks() }
    await announcedDead(sockets.count, within: NetlinkDevice.announcementLimit)
    do throws(NetlinkError) {
      try await kernel.netlink.reconfigure(
        index: index, backend: backend, links(sockets, parameters), within: NetlinkDevice.callLimit)
    } catch {
      // Somebody else has detached it: the next try makes it anew.
      if !kernel.isOurs(index, name) { state.withLock { $0.isAlive = false } }
      throw .netlink(index, error)
    }
    let hadStopped = state.withLock { state in
      state.announcedDead = max(0, state.announcedDead - sockets.count)
      state.deathWaiters = []
      defer { (state.hasStoppedHolding, state.mustTune) = (false, false) }
      return state.hasStoppedHolding || state.mustTune
    }
    if hadStopped { await tune(index, parameters, links: sockets.count) }
  }

  /// Once all links are those of the larger export. That it does not grow is no reason to give up links that are up,
  /// so that only who renews them hears of it; otherwise the next renewal tries again.
  private func growWithLinks(_ parameters: DeviceParameters, _ placement: LinkPlacement) async throws(Failure) {
    do throws(Failure) { try await grow(to: parameters.size, blockSize: parameters.blockSize) } catch {
      if placement == .replacingAll { throw error }
    }
  }

  package func grow(to size: UInt64, blockSize: Int) async throws(Failure) {
    guard let index, let now = kernel.registry.sysfs.size(of: index), now < size else { return }
    do throws(NetlinkError) {
      try await kernel.netlink.reconfigure(
        index: index, backend: NetlinkDevice.backend(of: name), .size(size), within: NetlinkDevice.callLimit)
    } catch {
      throw .netlink(index, error)
    }
  }

  /// With the reconnect-timeout of now. The timer only where it was taken back when I/O was no longer held, because
  /// saying it resets `queue/io_timeout`.
  private func links(_ sockets: [OpenFile], _ parameters: DeviceParameters) -> NBDReconfiguration<OpenFile> {
    let hasStoppedHolding = state.withLock { $0.hasStoppedHolding }
    return .links(
      sockets, timeoutSeconds: hasStoppedHolding ? parameters.kernelTimeout(links: sockets.count) : nil,
      deadConnectionTimeoutSeconds: parameters.deadConnectionTimeout ?? 0)
  }

  /// Waits until the driver knows that so many links are dead: sockets that come sooner it drops without a word.
  private func announcedDead(_ count: Int, within limit: Duration) async {
    await withCheckedContinuation { continuation in
      let answer = FirstAnswer<Void>(continuation)
      let isKnown = state.withLock { state in
        if state.announcedDead >= count { return true }
        state.deathWaiters.append(DeathWaiter(count: count, answer: answer))
        return false
      }
      if isKnown { answer.give(()) } else { answer.give((), after: limit) }
    }
  }

  /// From now on I/O fails that no link can carry, also what was sent on a dead one: its timer, of a second, makes the
  /// driver look for another, and it no longer waits for one (nbd_xmit_timeout, wait_for_reconnect).
  package func stopHoldingIO() async {
    guard let index, isAlive else { return }
    state.withLock { $0.hasStoppedHolding = true }
    try? await kernel.netlink.reconfigure(
      index: index, backend: NetlinkDevice.backend(of: name),
      .links([], timeoutSeconds: 1, deadConnectionTimeoutSeconds: 0), within: NetlinkDevice.callLimit)
  }

  /// What the driver does not know of the server, the block layer must: see `limitRequests` of the classic device.
  private func limitRequests(_ index: Int, _ parameters: DeviceParameters) throws(SystemCallError) {
    let wanted = parameters.maximumRequest >> 10
    guard let usual = kernel.registry.sysfs.largestRequest(of: index), wanted < usual else { return }
    try kernel.registry.sysfs.setLargestRequest(of: index, kibibytes: wanted)
    state.withLock { $0.usualRequest = $0.usualRequest ?? usual }
  }

  /// The block layer's own, in milliseconds (BLK_DEFAULT_TIMEOUT).
  static let usualIOTimeout: UInt32 = 30_000

  /// With one link and no timeout of the kernel's, requests that were sent on a dead link are sent again when the block
  /// layer's own timer fires: every second instead of every 30 s (nbd_xmit_timeout). With several links that timer
  /// would kill live ones.
  private func tune(_ index: Int, _ parameters: DeviceParameters, links: Int) async {
    let sysfs = kernel.registry.sysfs
    let milliseconds: UInt32? = links == 1 ? resendInterval : nil
    // Either may wait for I/O in flight.
    _ = await BlockingThread.run("nbd-tune", within: .seconds(5)) {
      try? self.limitRequests(index, parameters)
      if let milliseconds { try? sysfs.setIOTimeout(of: index, milliseconds: milliseconds) }
    }
  }

  package func holdIO(for reconnectTimeout: Duration?) async throws(Failure) {
    guard let index, isAlive, kernel.isOurs(index, name) else { return }
    state.withLock { $0.reconnectTimeout = reconnectTimeout }
    do throws(NetlinkError) {
      try await kernel.netlink.reconfigure(
        index: index, backend: NetlinkDevice.backend(of: name),
        .links([], deadConnectionTimeoutSeconds: deadConnectionTimeout(reconnectTimeout) ?? 0),
        within: NetlinkDevice.callLimit)
    } catch {
      throw .netlink(index, error)
    }
  }

  // MARK: Watching

  private func watch(_ sockets: [OpenFile]) {
    for socket in sockets {
      let token = try? DescriptorWatcher.shared.watch(socket.number, for: .ended) { [weak self] in self?.checkLinks() }
      guard let token else {
        state.withLock { $0.blindLinks += 1 }
        continue
      }
      state.withLock { $0.links.append(WatchedLink(socket: socket, token: token)) }
    }
    checkLinks()
  }

  /// The driver says that one of the links is dead.
  package func driverSaysLinkDead() {
    let waiters = state.withLock { state in
      state.announcedDead += 1
      let count = state.announcedDead
      defer { state.deathWaiters.removeAll { $0.count <= count } }
      return state.deathWaiters.filter { $0.count <= count }
    }
    for waiter in waiters { waiter.answer.give(()) }
    checkLinks()
    let hasBlindLoss = state.withLock { state in
      guard state.untoldEnds == 0 else {
        state.untoldEnds -= 1
        return false
      }
      guard state.blindLinks > 0 else { return false }
      state.blindLinks -= 1
      return true
    }
    if hasBlindLoss { tellLoss() }
    DispatchQueue.global().asyncAfter(deadline: .now() + NetlinkDevice.announcementGrace.inSeconds) { [weak self] in
      self?.requireAnnouncedLoss()
    }
  }

  /// A link that the driver calls dead must be one that has ended here too. Where all are up, the driver has dropped a
  /// socket that came before it knew that the old one was dead: then none of ours can be relied on.
  private func requireAnnouncedLoss() {
    let isContradiction = state.withLock { state in
      state.isAlive && state.announcedDead > 0 && state.linkCount >= state.wantedLinks && state.deathWaiters.isEmpty
    }
    guard isContradiction else { return }
    endLinks()
    tellLoss()
  }

  /// Whether a link that nobody keeps a duplicate of still carries I/O, found by reading a block past the kernel's cache.
  /// One that does not within `limit` counts as lost.
  private func probeBlindLinks(within limit: Duration) {
    guard let index, state.withLock({ $0.blindLinks > 0 }) else { return }
    let node = kernel.node(of: index)
    Task { [weak self] in
      let answers = await NetlinkDevice.canRead(node, within: limit)
      guard let self, !answers else { return }
      let hadBlindLinks = state.withLock { state in
        let count = state.blindLinks
        state.announcedDead += count
        state.blindLinks = 0
        return count > 0
      }
      if hadBlindLinks { tellLoss() }
    }
  }

  private static func canRead(_ node: String, within limit: Duration) async -> Bool {
    await withCheckedContinuation { continuation in
      let answer = FirstAnswer(continuation)
      do {
        try BlockingThread.start("nbd-probe") { answer.give(canReadFirstBlock(of: node)) }
        answer.give(false, after: limit)
      } catch {
        answer.give(true)
      }
    }
  }

  /// Looks at every link, and tells of those that have ended. May be called at any time, from any thread.
  package func checkLinks() {
    let ended = state.withLock { state -> [WatchedLink] in
      let ended = state.links.filter { DescriptorWatcher.hasEnded($0.socket.number) }
      state.links.removeAll { link in ended.contains { $0.token == link.token } }
      // Only where there are blind links does it matter whose end is told.
      state.untoldEnds = state.blindLinks > 0 ? state.untoldEnds + ended.count : 0
      return ended
    }
    guard !ended.isEmpty else { return }
    for link in ended {
      DescriptorWatcher.shared.unwatch(link.token)
      // Half a close is a close: the kernel must not go on to send.
      Socket.shutDown(link.socket.number)
    }
    tellLoss()
  }

  private func tellLoss() {
    let (loss, tell) = state.withLock { state in
      (LinkLoss(remaining: state.linkCount, holdsIO: state.holdsIO && state.isAlive), state.onLoss)
    }
    tell?(loss)
  }

  /// Ends all links without telling.
  func endLinks() {
    let links = state.withLock { state in
      defer { (state.links, state.blindLinks, state.untoldEnds) = ([], 0, 0) }
      return state.links
    }
    for link in links {
      DescriptorWatcher.shared.unwatch(link.token)
      Socket.shutDown(link.socket.number)
    }
  }

  /// With one link the kernel's own timer is off, so that the request-timeout is kept here.
  private func watchSilence(_ parameters: DeviceParameters) {
    let watch = state.withLock { state -> SilenceWatch? in
      state.silence = nil
      guard let limit = parameters.requestTimeout, state.linkCount == 1, let index = state.index else { return nil }
      let watch = SilenceWatch(limit: limit, index: index, sysfs: kernel.registry.sysfs) { [weak self] in
        guard let self else { return }
        for socket in sockets { Socket.shutDown(socket.number) }
      }
      state.silence = watch
      return watch
    }
    watch?.start()
  }
}
