import Dispatch

/// Calls when a netlink socket can be read, for as long as there is anything unread.
///
/// Unchecked: `wait` and `isStopped` are touched on the queue alone.
final class NetlinkReader: @unchecked Sendable {
  let socket: NetlinkSocket
  private let queue: DispatchQueue
  private let onReadable: @Sendable () -> Void
  private var wait: DescriptorWait?
  private var isStopped = false

  /// `onReadable` is called on `queue`, a serial one.
  init(_ socket: NetlinkSocket, on queue: DispatchQueue, _ onReadable: @escaping @Sendable () -> Void) {
    self.socket = socket
    self.queue = queue
    self.onReadable = onReadable
  }

  /// From now on it keeps itself, until `stop`.
  func start() { queue.async { self.awaitMore() } }

  func stop() {
    queue.async {
      self.isStopped = true
      self.wait?.cancel()
      self.wait = nil
    }
  }

  private func awaitMore() {
    guard !isStopped else { return }
    wait = DescriptorWait(for: .readable, of: socket.file.number, on: queue) {
      self.onReadable()
      self.awaitMore()
    }
  }
}
