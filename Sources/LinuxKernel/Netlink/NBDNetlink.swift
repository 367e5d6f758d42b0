import CLinuxNBD
import Glibc

/// The generic netlink interface of the nbd driver.
///
/// Any call can hang in the kernel for as long as somebody else holds its generic-netlink lock, so each runs on a thread
/// of a bounded pool, with a socket of its own, and has a deadline; one that hangs is reported and left to its thread.
/// The family's id changes when the module is loaded again, so it is looked up for each call, on the same thread.
package final class NBDNetlink: Sendable {
  /// What every call of this process shares: as many may hang before nothing else is tried.
  package static let pool = BlockingThreadPool(name: "nbd-netlink", threads: 8)

  package typealias Opening = @Sendable () throws(SystemCallError) -> any NetlinkChannel

  private let pool: BlockingThreadPool
  private let open: Opening

  package init() {
    pool = NBDNetlink.pool
    open = { () throws(SystemCallError) in try NetlinkSocket.forRequests() }
  }

  /// With a kernel of the caller's, which makes a channel for each call.
  package init(pool: BlockingThreadPool, open: @escaping Opening) {
    self.pool = pool
    self.open = open
  }

  /// Whether calls can be made now, else the reason: usually `unavailable`, or a kernel that does not answer in `limit`.
  /// Newer kernels (6.12, not 6.1) load the module to answer this, as they do for each call.
  package func availability(within limit: Duration) async -> Result<GenericNetlinkFamily, NetlinkError> {
    let open = open
    return await run("CTRL_CMD_GETFAMILY", within: limit) { () throws(NetlinkError) in
      var line = try NetlinkLine(open)
      return try line.family(NBD_GENL_FAMILY_NAME)
    }
  }

  /// Connects a device with one link for each socket: its index. EBUSY: in use, or still open somewhere, also by udev
  /// just after it was made or let go of. The sockets stay open until the kernel has them.
  package func connect(
    _ request: NBDConnectRequest, sockets: [OpenFile], within limit: Duration
  ) async throws(NetlinkError) -> Int {
    let replies = try await perform(.connect(request, sockets: sockets.map(\.number)), holding: sockets, within: limit)
    for reply in replies {
      if let index = try NBDReply.connectedIndex(in: reply) { return index }
    }
    throw .malformed("NBD_CMD_CONNECT without an index")
  }

  /// Changes a connected device. EINVAL also when `backend` is not the one given when it was connected. Success does not
  /// mean that a socket was taken: where the old link lives, the kernel drops the new one.
  package func reconfigure(
    index: Int, backend: String?, _ change: NBDReconfiguration<OpenFile>, within limit: Duration
  ) async throws(NetlinkError) {
    let (numbers, files): (NBDReconfiguration<Int32>, [OpenFile]) =
      switch change {
      case .links(let sockets, let timeout, let deadConnectionTimeout):
        (
          .links(
            sockets.map(\.number), timeoutSeconds: timeout, deadConnectionTimeoutSeconds: deadConnectionTimeout),
          sockets
        )
      case .size(let bytes): (.size(bytes), [])
      }
    _ = try await perform(.reconfigure(index: index, backend: backend, numbers), holding: files, within: limit)
  }

  /// Disconnects a device; I/O under way fails. Success also where nothing was connected; EINVAL for an unknown index.
  package func disconnect(index: Int, within limit: Duration) async throws(NetlinkError) {
    _ = try await perform(.disconnect(index: index), holding: [], within: limit)
  }

  /// All devices, or the one with that index: nothing where there is none.
  package func status(index: Int? = nil, within limit: Duration) async throws(NetlinkError) -> [NBDDeviceStatus] {
    for reply in try await perform(.status(index: index), holding: [], within: limit) {
      if let statuses = try NBDReply.statuses(in: reply) { return statuses }
    }
    throw .malformed("NBD_CMD_STATUS without an answer")
  }

  private func perform(
    _ request: NBDRequest, holding files: [OpenFile], within limit: Duration
  ) async throws(NetlinkError) -> [GenericNetlinkMessage] {
    let open = open
    return try await run(request.name, within: limit) { () throws(NetlinkError) in
      // The request names the files by number: the thread keeps them open, also past the deadline.
      defer { withExtendedLifetime(files) {} }
      var line = try NetlinkLine(open)
      return try line.perform(request)
    }.get()
  }

  private func run<Value: Sendable>(
    _ name: String, within limit: Duration, _ body: @escaping @Sendable () throws(NetlinkError) -> Value
  ) async -> Result<Value, NetlinkError> {
    switch await pool.run(within: limit, { Result { () throws(NetlinkError) in try body() } }) {
    case .ended(let result): result
    case .expired(let hasBegun): .failure(.timedOut(call: name, hasBegun: hasBegun))
    case .refused(let error): .failure(NetlinkError(error))
    }
  }
}
