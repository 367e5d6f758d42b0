package import AttachmentModel
package import LinuxKernel
package import NBDProtocol

/// A negotiated connection on its way into the kernel.
package struct Link: Sendable {
  package let socket: OpenFile
  package let server: ServerURI
  /// The address that was reached, such as `192.0.2.1 port 10809`.
  package let peer: String
  package let export: ExportInfo

  package init(socket: OpenFile, server: ServerURI, peer: String, export: ExportInfo) {
    self.socket = socket
    self.server = server
    self.peer = peer
    self.export = export
  }
}

/// What a device is to look like in the kernel.
package struct DeviceParameters: Equatable, Sendable, Codable {
  /// Logical block size in bytes.
  package var blockSize: Int
  /// In bytes, a multiple of `blockSize`, more than 0.
  package var size: UInt64
  /// The most data that one request may carry, in bytes, a multiple of `blockSize`.
  package var maximumRequest: Int
  package var flags: TransmissionFlags
  /// After which a request unanswered counts as a lost link; `nil`: never.
  package var requestTimeout: Duration?
  /// How long I/O is held when no link is left; `nil`: for ever.
  package var reconnectTimeout: Duration?

  /// As the kernel's timer takes it: whole seconds, rounded up, 0 for never.
  package var requestTimeoutInSeconds: UInt32 {
    guard let requestTimeout else { return 0 }
    let parts = requestTimeout.components
    return UInt32(clamping: parts.seconds &+ (parts.attoseconds > 0 ? 1 : 0))
  }

  /// For the kernel's own timer, in seconds. With one link it is off: a lost link is not to be told from a slow server
  /// by it, and the request-timeout is kept by watching progress.
  func kernelTimeout(links: Int) -> UInt64 { links == 1 ? 0 : UInt64(requestTimeoutInSeconds) }

  /// NBD_ATTR_DEAD_CONN_TIMEOUT in seconds, rounded up; `nil`: I/O is not held.
  var deadConnectionTimeout: UInt64? { Attachment.deadConnectionTimeout(reconnectTimeout) }

  package init(
    blockSize: Int, size: UInt64, maximumRequest: Int, flags: TransmissionFlags, requestTimeout: Duration?,
    reconnectTimeout: Duration? = nil
  ) {
    self.blockSize = blockSize
    self.size = size
    self.maximumRequest = maximumRequest
    self.flags = flags
    self.requestTimeout = requestTimeout
    self.reconnectTimeout = reconnectTimeout
  }
}

/// NBD_ATTR_DEAD_CONN_TIMEOUT in seconds for a reconnect-timeout, rounded up; `nil`: I/O is not held.
func deadConnectionTimeout(_ reconnectTimeout: Duration?) -> UInt64? {
  guard let reconnectTimeout else { return NBDConnectRequest.endlessSeconds }
  let parts = reconnectTimeout.components
  let seconds = UInt64(clamping: parts.seconds &+ (parts.attoseconds > 0 ? 1 : 0))
  return seconds == 0 ? nil : seconds
}

/// Links of a device that have come to their end without anybody's asking.
package struct LinkLoss: Equatable, Sendable {
  /// Links that are still up.
  package let remaining: Int
  /// The device lives on and makes I/O wait; else I/O fails now.
  package let holdsIO: Bool
  /// What the kernel answered, where it said anything.
  package let errnoCode: Int32?

  package init(remaining: Int, holdsIO: Bool, errnoCode: Int32? = nil) {
    self.remaining = remaining
    self.holdsIO = holdsIO
    self.errnoCode = errnoCode
  }
}

/// What `bind` does with links that are up.
package enum LinkPlacement: Equatable, Sendable {
  /// The new links take the places of those that are lost.
  case replacingLost
  /// The new links take the places of all.
  case replacingAll
}

/// One `/dev/nbdX` and the interface by which links get into it. An implementation for each kernel interface.
package protocol KernelDevice: Sendable {
  var interface: KernelInterface { get }
  /// `nil` until a device was found.
  var index: Int? { get }
  /// The kernel has the device, with links or without.
  var isAlive: Bool { get }
  /// Links that are up.
  var linkCount: Int { get }
  /// The sockets of the links that are up, for whoever keeps duplicates of them.
  var sockets: [OpenFile] { get }

  /// Puts links into the device, making it first where it does not exist, and returns when it is usable. From then on
  /// each loss is told by the callback given here last.
  func bind(
    _ links: [Link], _ parameters: DeviceParameters, _ placement: LinkPlacement,
    onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure)

  /// From now on losses are told to `body`.
  func tellLosses(to body: @escaping @Sendable (LinkLoss) -> Void)

  /// From now on I/O is held that long when no link is left, where the interface can hold it; `nil`: for ever.
  func holdIO(for reconnectTimeout: Duration?) async throws(Failure)

  /// Writes out what the kernel caches, disconnects and waits until the kernel has let go. What can't be had
  /// in `timeout` is forced. Throws when the kernel still does not let go. The device number is kept.
  func release(timeout: Duration) async throws(Failure)

  /// The reconnect-timeout has passed: I/O that no link can carry fails from now on, until links are bound again.
  func stopHoldingIO() async

  /// Stops watching and leaves the device to the kernel, where the interface allows that.
  func letGo()
}
