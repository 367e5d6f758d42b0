import Dispatch

/// Calls when a netlink socket can be read, for as long as there is anything unread.
///
/// Unchecked: Dispatch's sources may be used on any thread, but their protocol does not say so.
final class NetlinkReader: @unchecked Sendable {
  let socket: NetlinkSocket
  private let source: any DispatchSourceRead

  /// Has to be started, and then stopped, before it goes: Dispatch traps otherwise.
  init(_ socket: NetlinkSocket, on queue: DispatchQueue, _ onReadable: @escaping @Sendable () -> Void) {
    self.socket = socket
    source = DispatchSource.makeReadSource(fileDescriptor: socket.file.number, queue: queue)
    source.setEventHandler(handler: onReadable)
    // The number must not be used again before the source has let go of it.
    source.setCancelHandler { withExtendedLifetime(socket) {} }
  }

  func start() { source.activate() }

  func stop() { source.cancel() }
}
