import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import Synchronization

@testable import Attachment

/// A kernel device without a kernel: it keeps the links, loses each when the server closes it, and takes leave as the
/// driver does. As a device of netlink's it lives on without links, as one of the classic interface it does not.
///
/// Concurrency model: `state` is shared by the worker, the test and the watches on the sockets, under its mutex.
final class FakeDevice: KernelDevice {
  /// What a call of `bind` does.
  enum Binding: Sendable {
    case succeeds
    /// The links break before `bind` has returned.
    case endsAtOnce
    case fails(Failure)
  }

  private struct Bound: Sendable {
    let link: Link
    let watch: DescriptorWatcher.Token?
  }

  private struct State {
    var links: [Bound] = []
    var isAlive = false
    var onLoss: (@Sendable (LinkLoss) -> Void)?
    var parameters: [DeviceParameters] = []
    var placements: [LinkPlacement] = []
    var script: [Binding]
    var releases = 0
    var releaseFailure: Failure?
    var losesUnheard = false
    var departures = 0
    var holdings: [Duration?] = []
    var index: Int?
  }

  let number: Int
  let interface: KernelInterface
  let datapath: Datapath
  private let state: Mutex<State>

  /// `script`: what the first calls of `bind` do; the rest succeed.
  init(number: Int = 0, interface: KernelInterface = .ioctl, datapath: Datapath = .direct, script: [Binding] = []) {
    self.number = number
    self.interface = interface
    self.datapath = datapath
    state = Mutex(State(script: script))
  }

  var index: Int? { state.withLock { $0.index } }
  var isAlive: Bool { state.withLock { $0.isAlive } }
  var linkCount: Int { links.count }
  var sockets: [OpenFile] { links.map(\.socket) }
  var links: [Link] { state.withLock { $0.links.map(\.link) } }
  var link: Link? { links.first }
  /// Of each call of `bind`.
  var parameters: [DeviceParameters] { state.withLock { $0.parameters } }
  var placements: [LinkPlacement] { state.withLock { $0.placements } }
  var releases: Int { state.withLock { $0.releases } }
  /// How often it was left to the kernel.
  var departures: Int { state.withLock { $0.departures } }
  /// How long I/O was to be held, each time that was said of the bound device.
  var holdings: [Duration?] { state.withLock { $0.holdings } }

  func bind(
    _ links: [Link], _ parameters: DeviceParameters, _ placement: LinkPlacement,
    onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure) {
    let binding = state.withLock { state -> Binding in
      state.parameters.append(parameters)
      state.placements.append(placement)
      return state.script.isEmpty ? .succeeds : state.script.removeFirst()
    }
    switch binding {
    case .fails(let failure): throw failure
    case .endsAtOnce:
      state.withLock { ($0.index, $0.isAlive) = (number, interface == .netlink) }
      onLoss(LinkLoss(remaining: 0, holdsIO: interface == .netlink))
    case .succeeds:
      if placement == .replacingAll { take { _ in true }.forEach(end) }
      state.withLock { state in
        (state.index, state.isAlive, state.onLoss) = (number, true, onLoss)
        state.links += links.map { Bound(link: $0, watch: watch($0)) }
      }
    }
  }

  func tellLosses(to body: @escaping @Sendable (LinkLoss) -> Void) {
    if state.withLock({ $0.losesUnheard }) { lose() }
    state.withLock { $0.onLoss = body }
  }

  /// The links break in the moment before somebody new listens.
  func loseUnheard() { state.withLock { $0.losesUnheard = true } }

  func holdIO(for reconnectTimeout: Duration?) async throws(Failure) {
    state.withLock { $0.holdings.append(reconnectTimeout) }
  }

  func release(timeout: Duration) async throws(Failure) {
    state.withLock { ($0.releases, $0.onLoss, $0.isAlive) = ($0.releases + 1, nil, false) }
    for bound in take({ _ in true }) {
      let farewell = Request(.disconnect, cookie: 0).bytes
      _ = send(bound.link.socket.number, farewell, farewell.count, Int32(MSG_NOSIGNAL))
      end(bound)
    }
    if let failure = state.withLock({ $0.releaseFailure }) { throw failure }
  }

  /// From now on the kernel does not let go.
  func failReleases(with failure: Failure) { state.withLock { $0.releaseFailure = failure } }

  func stopHoldingIO() async {}

  func letGo(within limit: Duration) async {
    state.withLock { ($0.departures, $0.onLoss) = ($0.departures + 1, nil) }
    // As open as they were: the kernel has them too.
    take { _ in true }.forEach(unwatch)
  }

  /// Its links break, for no reason that anybody knows; or only the first `count`.
  func lose(_ count: Int = .max, errnoCode: Int32? = nil) {
    let chosen = links.prefix(count).map { ObjectIdentifier($0.socket) }
    lose(errnoCode: errnoCode) { chosen.contains(ObjectIdentifier($0.socket)) }
  }

  private func lose(errnoCode: Int32? = nil, _ isLost: (Link) -> Bool) {
    let lost = take(isLost)
    guard !lost.isEmpty else { return }
    lost.forEach(end)
    let (loss, onLoss) = state.withLock { state in
      if interface == .ioctl { state.isAlive = false }
      let loss = LinkLoss(remaining: state.links.count, holdsIO: state.isAlive, errnoCode: errnoCode)
      return (loss, state.onLoss)
    }
    onLoss?(loss)
  }

  private func take(_ isTaken: (Link) -> Bool) -> [Bound] {
    state.withLock { state in
      defer { state.links.removeAll { isTaken($0.link) } }
      return state.links.filter { isTaken($0.link) }
    }
  }

  private func end(_ bound: Bound) {
    unwatch(bound)
    Socket.shutDown(bound.link.socket.number)
  }

  /// Loses the link when the server closes it; what a test reads from it is left alone.
  private func watch(_ link: Link) -> DescriptorWatcher.Token? {
    try? DescriptorWatcher.shared.watch(link.socket.number, for: .ended) { [weak self] in
      self?.lose { $0.socket === link.socket }
    }
  }

  private func unwatch(_ bound: Bound) {
    if let watch = bound.watch { DescriptorWatcher.shared.unwatch(watch) }
  }
}
