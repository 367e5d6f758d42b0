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
package struct DeviceParameters: Equatable, Sendable {
  /// Logical block size in bytes.
  package var blockSize: Int
  /// In bytes, a multiple of `blockSize`, more than 0.
  package var size: UInt64
  /// The most data that one request may carry, in bytes, a multiple of `blockSize`.
  package var maximumRequest: Int
  package var flags: TransmissionFlags
  /// After which a request unanswered counts as a lost link; `nil`: never.
  package var requestTimeout: Duration?

  /// As the kernel's timer takes it: whole seconds, rounded up, 0 for never.
  package var requestTimeoutInSeconds: UInt32 {
    guard let requestTimeout else { return 0 }
    let parts = requestTimeout.components
    return UInt32(clamping: parts.seconds &+ (parts.attoseconds > 0 ? 1 : 0))
  }

  package init(
    blockSize: Int, size: UInt64, maximumRequest: Int, flags: TransmissionFlags, requestTimeout: Duration?
  ) {
    self.blockSize = blockSize
    self.size = size
    self.maximumRequest = maximumRequest
    self.flags = flags
    self.requestTimeout = requestTimeout
  }
}

/// How a kernel device came to its end.
package enum DeviceEnd: Equatable, Sendable {
  /// Its link broke; `errnoCode` is what the kernel answered, where it said anything.
  case lost(errnoCode: Int32?)
  /// Letting go of it was asked for.
  case released
}

/// One `/dev/nbdX` and the interface by which links get into it. An implementation for each kernel interface.
package protocol KernelDevice: Sendable {
  /// `nil` until a device was found.
  var index: Int? { get }
  /// The device lives on without a link and makes I/O wait.
  var holdsIO: Bool { get }

  /// Puts a link into the device and returns when the device is usable. From then on the device ends once, which
  /// is told by the callback given here.
  func bind(
    _ link: Link, _ parameters: DeviceParameters, onEnd: @escaping @Sendable (DeviceEnd) -> Void
  ) async throws(Failure)

  /// Writes out what the kernel caches, disconnects and waits until the kernel has let go. What can't be had
  /// in `timeout` is forced. Throws when the kernel still does not let go. The device number is kept.
  func release(timeout: Duration) async throws(Failure)
}
