package import AttachmentModel
import LinuxKernel
import Relay
import Synchronization

/// Letting go of a relayed device: for good, or to the next process.
extension RelayedDevice {
  /// How long the servers may take to flush what the kernel has not asked to be flushed.
  private static let flushLimit: Duration = .seconds(5)

  package func release(timeout: Duration) async throws(Failure) {
    let relay = state.withLock { state in
      state.onLoss = nil
      return state.relay
    }
    let isUp = linkCount > 0
    // What is held fails, so that writing out ends; and the kernel's farewell is read, which would block it otherwise.
    if !isUp { await relay?.answerWaiting() }
    var failure: Failure?
    do throws(Failure) { try await inner.release(timeout: timeout) } catch { failure = error }
    if let relay {
      if isUp { _ = await relay.drain(within: min(timeout, RelayedDevice.flushLimit)) }
      let unflushed = relay.snapshot().unflushedBytes
      await end(relay, leaving: false)
      if unflushed > 0 { tell(.leftUnflushed(bytes: unflushed)) }
    }
    dropLegacy(told: relay != nil)
    if let failure { throw failure }
  }

  package func letGo(within limit: Duration) async {
    let relay = state.withLock { state in
      state.onLoss = nil
      return state.relay
    }
    let isUp = linkCount > 0
    if isUp, let kernelDevice = inner as? NetlinkDevice { await kernelDevice.hurryResending(within: .seconds(1)) }
    let isDrained = isUp ? await relay?.drain(within: limit) ?? true : false
    // From here on nothing that `inner` sees is a loss.
    await inner.letGo(within: limit)
    if let relay { await end(relay, leaving: true, isDrained: isDrained) }
  }

  /// Ends the relay. `leaving`: the device goes on, and whoever has it next inherits what is not known to be safe, and waits
  /// for the servers to close the links, unless it `isDrained`: then they have nothing left to carry out.
  func end(_ relay: Relay, leaving: Bool, isDrained: Bool = false) async {
    // A device of the classic interface ends with this process.
    let heir = leaving && interface == .netlink ? NetlinkDevice.backend(of: name) : nil
    let remainder = await relay.end(leavingFor: heir)
    let counted = relay.snapshot()
    state.withLock { state in
      // Where the kernel has asked for nothing, nothing but what was inherited can have gone out.
      let isDone = isDrained || (state.legacy == nil && counted.answered == 0 && counted.queueDepth == 0)
      state.relay = nil
      state.links = [:]
      state.silent = []
      state.lostEarly = [:]
      state.closedEarly = []
      // Those of a former process are not this relay's to know of.
      let left = leaving ? (state.former?.sockets ?? []) + (isDone ? [] : Array(state.open.values)) : []
      state.former = left.isEmpty ? nil : FormerLinks(left)
      state.open = [:]
      state.newest = .min
      if case .legacy(let legacy) = remainder { state.legacy = legacy }
    }
    switch remainder {
    case .nothing, .inheritance, .legacy: break
    case .lost(let bytes, let owesError, _):
      if bytes > 0 { tell(.leftUnflushed(bytes: bytes)) }
      if owesError { tell(.leftUntold) }
    }
  }

  /// What was inherited is of no use to a device that is gone. `told`: a relay had taken it over, and its end was told.
  private func dropLegacy(told: Bool) {
    guard let legacy = state.withLock({ $0.legacy.take() }) else { return }
    try? legacy.spend()
    if !told, legacy.bytes > 0 { tell(.leftUnflushed(bytes: legacy.bytes)) }
    tell(.keepsChanged)
  }
}
