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
    if !isUp { relay?.giveUp() }
    var failure: Failure?
    do throws(Failure) { try await inner.release(timeout: timeout) } catch { failure = error }
    if let relay {
      let isFlushed = isUp ? await relay.drain(within: min(timeout, RelayedDevice.flushLimit)) : false
      await end(relay, isFlushed: isFlushed)
    }
    if let failure { throw failure }
  }

  package func letGo(within limit: Duration) async {
    let relay = state.withLock { state in
      state.onLoss = nil
      return state.relay
    }
    let isUp = linkCount > 0
    if isUp, let kernelDevice = inner as? NetlinkDevice { await kernelDevice.hurryResending(within: .seconds(1)) }
    let isFlushed = isUp ? await relay?.drain(within: limit) ?? true : relay == nil
    // From here on nothing that `inner` sees is a loss.
    await inner.letGo(within: limit)
    if let relay { await end(relay, isFlushed: isFlushed) }
  }

  /// Ends the relay, and tells of what it could not make sure of.
  func end(_ relay: Relay, isFlushed: Bool = true) async {
    let unflushed = isFlushed ? 0 : relay.snapshot().unflushedBytes
    if unflushed > 0 { tell(.leftUnflushed(bytes: unflushed)) }
    await relay.end()
    state.withLock { state in
      state.relay = nil
      state.links = [:]
      state.silent = []
      state.lostEarly = [:]
      state.newest = .min
    }
  }
}
