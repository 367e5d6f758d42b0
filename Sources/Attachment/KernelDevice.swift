package import AttachmentModel
package import LinuxKernel
package import NBDProtocol
package import Relay
package import TLS

/// A negotiated connection on its way into the kernel.
package struct Link: Sendable {
  package let socket: OpenFile
  /// What protects the connection; with it the socket itself carries ciphertext only. Who owns the link uses it, on one
  /// thread at a time. `nil`: the connection is in clear, or the kernel protects it.
  package let tls: TLSSession?
  /// How the connection is protected, and by whom; `nil`: it is in clear.
  package let security: LinkSecurity?
  package let server: ServerURI
  /// The address that was reached, such as `192.0.2.1 port 10809`.
  package let peer: String
  package let export: ExportInfo

  package init(
    socket: OpenFile, tls: TLSSession? = nil, security: LinkSecurity? = nil, server: ServerURI, peer: String,
    export: ExportInfo
  ) {
    self.socket = socket
    self.tls = tls
    self.security = security
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
  /// How the link ended, as the end of a sentence about it, where more is known than that it did.
  package let reason: String?

  package init(remaining: Int, holdsIO: Bool, errnoCode: Int32? = nil, reason: String? = nil) {
    self.remaining = remaining
    self.holdsIO = holdsIO
    self.errnoCode = errnoCode
    self.reason = reason
  }
}

/// What a device tells that is no loss of a link.
package enum DeviceNotice: Equatable, Sendable {
  /// A server has not answered a request within the request-timeout; its link is still up.
  case silent
  /// The oldest request has waited this long.
  case stalled(seconds: Int)
  /// What was stalled goes on.
  case flowing
  /// After an outage, once: requests that are sent again, and acknowledged writes, of so many bytes; not both 0.
  case recovered(resent: Int, replayed: Int, replayedBytes: Int)
  /// The server has refused acknowledged writes that were sent again: these bytes are not as the kernel believes.
  case dataLost(DataLoss)
  /// A FLUSH failed, of which the kernel hears at its next.
  case flushFailed(errnoCode: Int32)
  /// The device was let go while so many acknowledged bytes were on no server for certain.
  case leftUnflushed(bytes: Int)
  /// The device was let go before the kernel was told of data that is lost, and it will not be.
  case leftUntold
  /// `legacy` or `sockets` are others: what the next process needs.
  case keepsChanged
  /// What a former process has left could not be taken over: so many acknowledged bytes are not sent again, and the kernel
  /// hears of it at its next FLUSH.
  case legacyLost(bytes: Int, reason: String)
  /// Requests wait although it has links: its server has not closed those of a former process, and may still carry out
  /// writes of it.
  case awaitsFormerLinks
  /// Its links lead to another server now.
  case serverChanged(from: ServerURI, to: ServerURI)
  /// All its links are made with what is declared since they were made before.
  case renewedAsDeclared
  /// The kernel has sent what no kernel sends.
  case kernelMisbehaved(String)
}

/// What `bind` does with links that are up.
package enum LinkPlacement: Equatable, Sendable {
  /// The new links take the places of those that are lost.
  case replacingLost
  /// The new links take the places of all.
  case replacingAll
  /// The new links take the places of those whose server is silent: these are given up only now, and what they may still
  /// hold is waited for. Of all, where the new ones lead to another server.
  case superseding
}

/// One `/dev/nbdX` and the interface by which links get into it. An implementation for each kernel interface.
package protocol KernelDevice: AnyObject, Sendable {
  var interface: KernelInterface { get }
  var datapath: Datapath { get }
  /// `nil` until a device was found.
  var index: Int? { get }
  /// The kernel has the device, with links or without.
  var isAlive: Bool { get }
  /// Links that are up.
  var linkCount: Int { get }
  /// The sockets of the links that are up, for whoever keeps duplicates of them.
  var sockets: [OpenFile] { get }
  /// Counted since it was first bound; `nil` where nothing counts.
  var statistics: IOStatistics? { get }

  /// A request was answered since it was last without a link, as far as that can be known.
  var hasAnswered: Bool { get }

  /// What is kept for the next process beside the links; `nil`: nothing, as while the device is at work.
  var legacy: Legacy? { get }

  /// Links that are up and whose server is silent; see `DeviceNotice.silent`.
  var silentLinks: Int { get }

  /// Whether the device has taken the link, so that its end is the device's.
  func owns(_ link: Link) -> Bool

  /// Puts links into the device, making it first where it does not exist, and returns when it is usable. From then on
  /// each loss is told by the callback given here last.
  func bind(
    _ links: [Link], _ parameters: DeviceParameters, _ placement: LinkPlacement,
    onLoss: @escaping @Sendable (LinkLoss) -> Void
  ) async throws(Failure)

  /// From now on losses are told to `body`.
  func tellLosses(to body: @escaping @Sendable (LinkLoss) -> Void)

  /// From now on what else there is to say of the device is told to `body`.
  func tellNotices(to body: @escaping @Sendable (DeviceNotice) -> Void)

  /// Takes over what the spec says of a device that is bound, and what a running one can take over.
  func update(_ spec: AttachmentSpec)

  /// Makes a device that is bound as large as that. Throws where it does not grow; it is then as it was.
  func grow(to size: UInt64, blockSize: Int) async throws(Failure)

  /// From now on I/O is held that long when no link is left, where the interface can hold it; `nil`: for ever.
  func holdIO(for reconnectTimeout: Duration?) async throws(Failure)

  /// Writes out what the kernel caches, disconnects and waits until the kernel has let go. What can't be had
  /// in `timeout` is forced. Throws when the kernel still does not let go. The device number is kept.
  func release(timeout: Duration) async throws(Failure)

  /// The reconnect-timeout has passed: I/O that no link can carry fails from now on, until links are bound again.
  func stopHoldingIO() async

  /// Leaves the device to the kernel, where the interface allows that, after what is under way has come to its end, which
  /// is waited for no longer than `limit`.
  func letGo(within limit: Duration) async
}

/// What most devices have nothing of.
extension KernelDevice {
  package var datapath: Datapath { .direct }
  package var statistics: IOStatistics? { nil }
  package var legacy: Legacy? { nil }
  package var silentLinks: Int { 0 }
  package var hasAnswered: Bool { true }
  package func owns(_ link: Link) -> Bool { sockets.contains { $0 === link.socket } }
  package func tellNotices(to body: @escaping @Sendable (DeviceNotice) -> Void) {}
  package func update(_ spec: AttachmentSpec) {}
  package func grow(to size: UInt64, blockSize: Int) async throws(Failure) {}
}
