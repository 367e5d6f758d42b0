import CLinuxNBD

/// What a device is to be when it is connected: the attributes of NBD_CMD_CONNECT. What the kernel would keep from the
/// index's last user, or guess, is always sent.
package struct NBDConnectRequest: Equatable, Sendable {
  /// Of `/dev/nbdX`; `nil`: the kernel takes a free one, or makes one.
  package var index: Int?
  /// In bytes.
  package var size: UInt64
  /// In bytes; the kernel's own default would be 1024.
  package var blockSize: UInt64
  /// The transmission flags as the server sent them.
  package var serverFlags: UInt64
  /// NBD_CFLAG_ bits.
  package var clientFlags: UInt64 = 0
  /// How long a request may take; 0: for ever.
  package var timeoutSeconds: UInt64 = 0
  /// How long I/O is held when no link is left; `nil`: not at all.
  package var deadConnectionTimeoutSeconds: UInt64?
  /// Whose the device is. Each later reconfiguration must name it.
  package var backend: String?

  package init(
    index: Int?, size: UInt64, blockSize: UInt64, serverFlags: UInt64, clientFlags: UInt64 = 0,
    timeoutSeconds: UInt64 = 0, deadConnectionTimeoutSeconds: UInt64? = nil, backend: String? = nil
  ) {
    self.index = index
    self.size = size
    self.blockSize = blockSize
    self.serverFlags = serverFlags
    self.clientFlags = clientFlags
    self.timeoutSeconds = timeoutSeconds
    self.deadConnectionTimeoutSeconds = deadConnectionTimeoutSeconds
    self.backend = backend
  }

  /// A dead-connection timeout that never comes: the longest that the kernel's multiplication by HZ, at most 1200, and
  /// its signed jiffies bear (nbd_genl_connect, wait_for_reconnect). Longer ones are cut to it.
  package static let endlessSeconds = UInt64(Int.max >> 11)
}

/// What NBD_CMD_RECONFIGURE changes of a connected device: links or size. Never both, which would freeze the queue
/// before the links are there to drain it (nbd_set_size in nbd_genl_reconfigure).
package enum NBDReconfiguration<Socket: Sendable>: Sendable {
  /// Puts sockets in the places of dead links, with what else is to change. The kernel takes as many as it has dead
  /// links and drops the rest without an error. A timeout of 0 resets `queue/io_timeout` to 30 s.
  case links([Socket], timeoutSeconds: UInt64? = nil, deadConnectionTimeoutSeconds: UInt64? = nil)
  /// In bytes. Waits until every request in flight is answered: only while I/O flows.
  case size(UInt64)
}

extension NBDReconfiguration: Equatable where Socket: Equatable {}

/// A request of the `nbd` family, with sockets by their numbers in this process.
package enum NBDRequest: Equatable, Sendable {
  case connect(NBDConnectRequest, sockets: [Int32])
  case reconfigure(index: Int, backend: String?, NBDReconfiguration<Int32>)
  case disconnect(index: Int)
  /// `nil`: of all devices.
  case status(index: Int?)

  /// The kernel's name for it.
  package var name: String {
    switch self {
    case .connect: "NBD_CMD_CONNECT"
    case .reconfigure: "NBD_CMD_RECONFIGURE"
    case .disconnect: "NBD_CMD_DISCONNECT"
    case .status: "NBD_CMD_STATUS"
    }
  }

  private var command: Int {
    switch self {
    case .connect: Int(NBD_CMD_CONNECT)
    case .reconfigure: Int(NBD_CMD_RECONFIGURE)
    case .disconnect: Int(NBD_CMD_DISCONNECT)
    case .status: Int(NBD_CMD_STATUS)
    }
  }

  /// `nil` when a value does not fit: an index below 0 or above 32 bits, a string or a list of more than 64 KiB.
  package func message(family: UInt16, sequence: UInt32) -> NetlinkMessage? {
    guard let attributes, !attributes.isTooLong else { return nil }
    return GenericNetlinkMessage.request(
      family: family, command: command, version: Int(NBD_GENL_VERSION), sequence: sequence, attributes)
  }

  private var attributes: NetlinkAttributes? {
    var attributes = NetlinkAttributes()
    switch self {
    case .connect(let request, let sockets):
      guard attributes.add(index: request.index) else { return nil }
      attributes.add(Int(NBD_ATTR_SIZE_BYTES), request.size)
      attributes.add(Int(NBD_ATTR_BLOCK_SIZE_BYTES), request.blockSize)
      attributes.add(Int(NBD_ATTR_SERVER_FLAGS), request.serverFlags)
      attributes.add(Int(NBD_ATTR_CLIENT_FLAGS), request.clientFlags)
      attributes.add(timeout: request.timeoutSeconds, deadConnectionTimeout: request.deadConnectionTimeoutSeconds)
      attributes.add(backend: request.backend)
      attributes.add(sockets: sockets)
    case .reconfigure(let index, let backend, let change):
      guard attributes.add(index: index) else { return nil }
      attributes.add(backend: backend)
      switch change {
      case .links(let sockets, let timeout, let deadConnectionTimeout):
        attributes.add(timeout: timeout, deadConnectionTimeout: deadConnectionTimeout)
        attributes.add(sockets: sockets)
      case .size(let bytes):
        attributes.add(Int(NBD_ATTR_SIZE_BYTES), bytes)
      }
    case .disconnect(let index):
      guard attributes.add(index: index) else { return nil }
    case .status(let index):
      guard attributes.add(index: index) else { return nil }
    }
    return attributes
  }
}

extension NetlinkAttributes {
  /// The kernel's timer is an `unsigned int` of milliseconds or jiffies: longer timeouts would wrap.
  private static let longestTimeout = UInt64(UInt32.max >> 11)

  /// Whether it fits. -1 as unsigned means "any" to CONNECT and "all" to STATUS, so that no index may become it.
  fileprivate mutating func add(index: Int?) -> Bool {
    guard let index else { return true }
    guard let number = Int32(exactly: index), number >= 0 else { return false }
    add(Int(NBD_ATTR_INDEX), UInt32(number.magnitude))
    return true
  }

  fileprivate mutating func add(timeout: UInt64?, deadConnectionTimeout: UInt64?) {
    if let timeout { add(Int(NBD_ATTR_TIMEOUT), min(timeout, NetlinkAttributes.longestTimeout)) }
    if let deadConnectionTimeout {
      add(Int(NBD_ATTR_DEAD_CONN_TIMEOUT), min(deadConnectionTimeout, NBDConnectRequest.endlessSeconds))
    }
  }

  fileprivate mutating func add(backend: String?) {
    if let backend { add(Int(NBD_ATTR_BACKEND_IDENTIFIER), backend) }
  }

  fileprivate mutating func add(sockets: [Int32]) {
    addNested(Int(NBD_ATTR_SOCKETS)) { list in
      for socket in sockets {
        list.addNested(Int(NBD_SOCK_ITEM)) { $0.add(Int(NBD_SOCK_FD), UInt32(bitPattern: socket)) }
      }
    }
  }
}
