package import AttachmentModel
import Glibc
import LinuxKernel
import Synchronization

/// Letting go of a device: for good, or to the next process.
extension NetlinkDevice {
  package func release(timeout: Duration) async throws(Failure) {
    guard let index, isAlive, kernel.isOurs(index, name) else { return endLinks() }
    state.withLock { ($0.onLoss, $0.silence) = (nil, nil) }
    let isWrittenOut = linkCount > 0 ? await writeOut(index, within: timeout) : false
    // DISCONNECT sends on the links, holding the lock of all of generic netlink: never on one that is stuck.
    if !isWrittenOut { endLinks() }
    do throws(NetlinkError) { try await disconnect(index) } catch { throw .netlink(index, error) }
    endLinks()
    state.withLock { $0.isAlive = false }
    guard await isFree(index, within: .seconds(5)) else { throw .notReleased(index) }
    await untune(index)
  }

  /// Ends the device in the kernel. Hundreds may be let go of at once, and share a few threads: one whose turn did not come
  /// in time queues again, a bounded number of times: threads that are stuck never come back.
  private func disconnect(_ index: Int) async throws(NetlinkError) {
    for _ in 1..<NetlinkDevice.disconnectTurns {
      do throws(NetlinkError) {
        return try await kernel.netlink.disconnect(index: index, within: NetlinkDevice.callLimit)
      } catch {
        guard case .timedOut(_, hasBegun: false) = error else { throw error }
      }
    }
    try await kernel.netlink.disconnect(index: index, within: NetlinkDevice.callLimit)
  }

  /// This process is about to end, and requests that it does not read any more are to go on soon after the next one has
  /// put a socket in. Only while I/O flows: it may wait for that.
  func hurryResending(within limit: Duration) async {
    guard let index else { return }
    let sysfs = kernel.registry.sysfs
    state.withLock { $0.mustTune = true }
    _ = await BlockingThread.run("nbd-tune", within: limit) {
      try? sysfs.setIOTimeout(of: index, milliseconds: 1000)
    }
  }

  /// The number keeps its limits, and its next user may be another program.
  private func untune(_ index: Int) async {
    let sysfs = kernel.registry.sysfs
    _ = await BlockingThread.run("nbd-untune", within: .seconds(5)) {
      if sysfs.ioTimeout(of: index) != UInt64(NetlinkDevice.usualIOTimeout) {
        try? sysfs.setIOTimeout(of: index, milliseconds: NetlinkDevice.usualIOTimeout)
      }
      let usual = self.state.withLock { $0.usualRequest.take() }
      if let usual { try? sysfs.setLargestRequest(of: index, kibibytes: usual) }
    }
  }

  /// Whether all that the kernel's own cache holds has reached the server.
  private func writeOut(_ index: Int, within limit: Duration) async -> Bool {
    let node = kernel.node(of: index)
    return await withCheckedContinuation { continuation in
      let answer = FirstAnswer(continuation)
      do {
        try BlockingThread.start("nbd-flush") {
          guard let number = try? FileDescriptor.open(node, O_RDONLY).release() else {
            return answer.give(false)
          }
          defer { close(number) }
          answer.give((try? NBDDevice(number).flush()) != nil)
        }
        answer.give(false, after: limit)
      } catch {
        answer.give(false)
      }
    }
  }

  private func isFree(_ index: Int, within limit: Duration) async -> Bool {
    let deadline = monotonicNow() + limit.inSeconds
    var pause: Duration = .milliseconds(5)
    while monotonicNow() < deadline {
      if !kernel.isOurs(index, name) { return true }
      try? await Task.sleep(for: pause)
      pause = min(pause * 2, .milliseconds(100))
    }
    return false
  }

  package func letGo(within limit: Duration) async {
    let links = state.withLock { state in
      defer { (state.links, state.onLoss, state.silence) = ([], nil, nil) }
      return state.links
    }
    for link in links { DescriptorWatcher.shared.unwatch(link.token) }
  }
}
