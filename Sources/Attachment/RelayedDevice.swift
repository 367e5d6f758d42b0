package import AttachmentModel
package import LinuxKernel
import NBDProtocol
package import Relay
import RelayModel
import Synchronization

/// A device whose kernel side is one end of a socketpair, with a relay between it and the servers: the kernel never sees
/// a link break, whatever its interface.
///
/// `inner` brings that end into the kernel, as its only link. Concurrency model: `state` is shared by the worker and the
/// threads of the relay and of `inner`, under its mutex; `bind`, `release` and `letGo` come from one worker, one at a
/// time. Nothing that waits for I/O is called on the relay's thread: it is what answers.
package final class RelayedDevice: KernelDevice {
  struct State {
    var relay: Relay?
    var settings: RelaySettings
    /// How long the relay holds I/O; `nil`: for ever.
    var reconnectTimeout: Duration?
    /// The links that take requests.
    var links: [LinkID: OpenFile] = [:]
    /// All that are not closed: on those that take no requests any more the server may still carry some out.
    var open: [LinkID: OpenFile] = [:]
    /// Links that ended, or were closed, before the relay had told their identifiers.
    var lostEarly: [LinkID: RelayEvent.Loss] = [:]
    var closedEarly: Set<LinkID> = []
    var newest = LinkID.min
    var silent: Set<LinkID> = []
    /// Requests that were answered before it was last given links while it had none.
    var answeredBefore: UInt64 = 0
    /// Of the links.
    var server: ServerURI?
    /// What a former process has left, or a relay of this one that has ended; until it is spent.
    var legacy: Legacy?
    /// Of a former process; until they are closed.
    var former: FormerLinks?
    var onLoss: (@Sendable (LinkLoss) -> Void)?
    var onNotice: (@Sendable (DeviceNotice) -> Void)?
  }

  let name: String
  let inner: any KernelDevice
  let state: Mutex<State>

  /// How long the old links may take to answer what they have, before new ones take their places.
  private static let switchLimit: Duration = .seconds(10)
  /// While no process of ours is there the kernel holds I/O at least this long, also where the relay would hold none.
  private static let shortestKernelHold: Duration = .seconds(30)
  /// The driver's own limit: `max_hw_sectors_kb`. The relay cuts what is too large for the server.
  static let largestRequest = 32 << 20

  /// `inner` is not bound, or is one of a former process, which has left `legacy` and the sockets of its links.
  package init(
    _ inner: any KernelDevice, _ spec: AttachmentSpec, budget: RelayBudget, inheriting legacy: Legacy? = nil,
    after links: [OpenFile] = []
  ) {
    name = spec.name
    self.inner = inner
    let former = links.isEmpty ? nil : FormerLinks(links)
    state = Mutex(
      State(
        settings: RelaySettings(spec, budget), reconnectTimeout: spec.reconnectTimeout, legacy: legacy, former: former
      ))
  }

  package var interface: KernelInterface { inner.interface }
  package var datapath: Datapath { .relay }
  package var index: Int? { inner.index }
  package var isAlive: Bool { inner.isAlive }
  /// None without the kernel's end: nothing comes to them.
  package var linkCount: Int { inner.linkCount > 0 ? state.withLock { $0.links.count } : 0 }
  /// Of all links that are not closed, those of a former process too: the next one waits until they are. A device of the
  /// classic interface has no next one.
  package var sockets: [OpenFile] {
    guard interface == .netlink else { return [] }
    return state.withLock { ($0.former?.sockets ?? []) + $0.open.values }
  }
  package var statistics: IOStatistics? { state.withLock { $0.relay }.map { IOStatistics($0.snapshot()) } }
  package var legacy: Legacy? { state.withLock { $0.legacy } }
  package var silentLinks: Int { state.withLock { $0.silent.count } }
  package var hasAnswered: Bool {
    let (relay, before) = state.withLock { ($0.relay, $0.answeredBefore) }
    return relay.map { $0.snapshot().answered > before } ?? false
  }

  package func owns(_ link: Link) -> Bool {
    state.withLock { $0.links.values.contains { $0 === link.socket } }
  }

  package func tellLosses(to body: @escaping @Sendable (LinkLoss) -> Void) { state.withLock { $0.onLoss = body } }

  package func tellNotices(to body: @escaping @Sendable (DeviceNotice) -> Void) {
    state.withLock { $0.onNotice = body }
  }

  package func update(_ spec: AttachmentSpec) {
    let (relay, settings) = state.withLock { state in
      state.settings = RelaySettings(spec, state.settings.budget)
      state.reconnectTimeout = spec.reconnectTimeout
      return (state.relay, state.settings)
    }
    relay?.change(settings)
  }

  package func grow(to size: UInt64, blockSize: Int) async throws(Failure) {
    try await inner.grow(to: size, blockSize: blockSize)
  }

  package func holdIO(for reconnectTimeout: Duration?) async throws(Failure) {
    state.withLock { $0.reconnectTimeout = reconnectTimeout }
    try await inner.holdIO(for: RelayedDevice.kernelHold(reconnectTimeout))
  }

  package func stopHoldingIO() async {
    state.withLock { $0.relay }?.giveUp()
    // Where the kernel's end is gone, as after a former process, the kernel itself holds.
    if inner.linkCount == 0 { await inner.stopHoldingIO() }
  }

  private static func kernelHold(_ reconnectTimeout: Duration?) -> Duration? {
    reconnectTimeout.map { max($0, shortestKernelHold) }
  }

  // MARK: Binding

  package func bind(
    _ links: [Link], _ parameters: DeviceParameters, _ placement: LinkPlacement,
    onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) {
    let (known, settings) = state.withLock { state in
      state.reconnectTimeout = parameters.reconnectTimeout
      // A renewal may fail yet: until then losses are told to whom they were before.
      if placement == .replacingLost { state.onLoss = onLoss }
      return (state.relay, state.settings)
    }
    let relay: Relay
    if let known { relay = known } else { relay = try makeRelay(settings) }
    do throws(Failure) {
      try await put(links, into: relay, placement)
      if inner.linkCount == 0 {
        try await bindKernel(to: relay, links, parameters)
      } else {
        try await grow(parameters, placement)
      }
    } catch {
      // Nobody waits for a device that has never been; what was inherited is for the next try.
      if known == nil {
        await end(relay, leaving: true)
        tell(.keepsChanged)
      }
      throw error
    }
    state.withLock { $0.onLoss = onLoss }
  }

  private func makeRelay(_ settings: RelaySettings) throws(Failure) -> Relay {
    do throws(SystemCallError) {
      let (legacy, former) = state.withLock { ($0.legacy, $0.former) }
      let relay = try Relay(name: name, settings, inheriting: legacy, after: former) { [weak self] event in
        self?.took(event)
      }
      state.withLock { $0.relay = relay }
      return relay
    } catch {
      throw Failure(.binding, "the relay can't be started: \(error)", errnoCode: error.code, advice: .retry)
    }
  }

  private func put(_ links: [Link], into relay: Relay, _ placement: LinkPlacement) async throws(Failure) {
    guard let server = links.first?.server else { return }
    let taken = links.map { RelayLink($0) }
    let answered = relay.snapshot().answered
    let old = state.withLock { state in
      if state.links.isEmpty { state.answeredBefore = answered }
      return state.links.keys.sorted()
    }
    let ids: [LinkID]
    switch placement {
    case .replacingLost where inner.linkCount > 0 || old.isEmpty:
      ids = await relay.add(taken)
    case .replacingLost, .replacingAll:
      // Where the kernel's end was lost and links are left, nothing is under way any more.
      do throws(RelayError) { ids = try await relay.replaceAll(with: taken, within: RelayedDevice.switchLimit) } catch {
        throw .replacing(error, within: RelayedDevice.switchLimit)
      }
      state.withLock { state in for id in old { state.drop(id) } }
    case .superseding:
      guard state.withLock({ !$0.silent.isEmpty }) else {
        throw Failure(.serving, "the server answers again: its links stay", advice: .retry)
      }
      ids = await supersede(old, in: relay, with: taken, isElsewhere: server != state.withLock { $0.server })
    }
    let lost = state.withLock { state in state.take(ids, links.map(\.socket), of: server) }
    guard lost < ids.count else {
      throw Failure(.connecting, "the new links were lost at once", advice: .retry)
    }
    if lost > 0 { tellLoss(reason: nil) }
  }

  /// Of links to another server all take part: a device's links lead to one.
  private func supersede(
    _ old: [LinkID], in relay: Relay, with links: [RelayLink], isElsewhere: Bool
  ) async -> [LinkID] {
    let left = state.withLock { state in isElsewhere ? old : old.filter { state.silent.contains($0) } }
    // Told of as superseded from here on, not as lost.
    state.withLock { state in for id in left { state.drop(id) } }
    guard let first = left.first else { return await relay.add(links) }
    let ids = await relay.supersede(first, with: links)
    for id in left.dropFirst() { await relay.supersede(id, with: []) }
    return ids
  }

  /// With the driver's own timer off: one link, and nothing that it could do about a silent server.
  private func bindKernel(to relay: Relay, _ links: [Link], _ parameters: DeviceParameters) async throws(Failure) {
    guard let link = links.first else { return }
    var parameters = parameters
    parameters.requestTimeout = nil
    parameters.reconnectTimeout = RelayedDevice.kernelHold(parameters.reconnectTimeout)
    let socket: OpenFile
    do throws(SystemCallError) { socket = try relay.makeKernelEnd() } catch {
      throw Failure(.binding, "the kernel's socket can't be made: \(error)", errnoCode: error.code, advice: .retry)
    }
    let end = Link(socket: socket, server: link.server, peer: link.peer, export: link.export)
    try await inner.bind([end], parameters, .replacingLost) { [weak self] loss in self?.lostKernel(loss) }
  }

  /// That it does not grow is no reason to give up links that are up, so that only who renews them hears of it.
  private func grow(_ parameters: DeviceParameters, _ placement: LinkPlacement) async throws(Failure) {
    do throws(Failure) { try await inner.grow(to: parameters.size, blockSize: parameters.blockSize) } catch {
      if placement == .replacingAll { throw error }
    }
  }

  // MARK: What the relay and the kernel tell

  private func took(_ event: RelayEvent) {
    switch event {
    case .linkLost(let id, let loss, let remaining): lost(id, loss, remaining: remaining)
    case .linkClosed(let id):
      state.withLock { $0.close(id) }
      tell(.keepsChanged)
    case .awaitsFormerLinks: tell(.awaitsFormerLinks)
    case .formerLinksClosed:
      state.withLock { $0.former = nil }
      tell(.keepsChanged)
    case .silent(let id):
      if state.withLock({ $0.noteSilence(of: id) }) { tell(.silent) }
    case .speaking(let id): state.withLock { _ = $0.silent.remove(id) }
    case .stalled(let seconds): tell(.stalled(seconds: seconds))
    case .flowing: tell(.flowing)
    case .recovered(let resent, let replayed, let bytes):
      tell(.recovered(resent: resent, replayed: replayed, replayedBytes: bytes))
    case .dataLost(let range): tell(.dataLost(DataLoss(range, time: wallClockNow())))
    case .flushFailed(let error): tell(.flushFailed(errnoCode: Int32(clamping: error)))
    case .legacySpent:
      state.withLock { $0.legacy = nil }
      tell(.keepsChanged)
    case .legacyLost(let bytes, let reason): tell(.legacyLost(bytes: bytes, reason: reason))
    // The relay has closed its end, as a server would, and `inner` tells of the end.
    case .kernelEnded(_, .some(let problem)): tell(.kernelMisbehaved(problem))
    case .kernelEnded(_, nil): break
    }
  }

  private func lost(_ id: LinkID, _ loss: RelayEvent.Loss, remaining: Int) {
    let wasInUse = state.withLock { state in
      if state.drop(id) { return true }
      if id > state.newest { state.lostEarly[id] = loss }
      return false
    }
    if wasInUse { tellLoss(loss.errnoCode, reason: loss.reason) }
  }

  /// The kernel's end is gone: somebody has detached the device, or the driver has given it up.
  private func lostKernel(_ loss: LinkLoss) {
    let (tell, holds) = state.withLock { ($0.onLoss, $0.reconnectTimeout != .zero) }
    tell?(LinkLoss(remaining: 0, holdsIO: holds && inner.isAlive, errnoCode: loss.errnoCode))
  }

  private func tellLoss(_ errnoCode: Int32? = nil, reason: String?) {
    let (relay, remaining, tell, holds) = state.withLock { state in
      (state.relay, state.links.count, state.onLoss, state.reconnectTimeout != .zero)
    }
    if remaining == 0, !holds { relay?.giveUp() }
    tell?(
      LinkLoss(
        remaining: linkCount == 0 ? 0 : remaining, holdsIO: holds && inner.isAlive, errnoCode: errnoCode,
        reason: reason))
  }

  func tell(_ notice: DeviceNotice) { state.withLock { $0.onNotice }?(notice) }
}
