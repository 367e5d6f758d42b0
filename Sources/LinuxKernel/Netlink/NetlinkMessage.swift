import CLinuxNBD

/// One netlink message: the fields of its header (`struct nlmsghdr`) and what follows it. Numbers are in the machine's
/// own byte order.
package struct NetlinkMessage: Equatable, Sendable {
  /// An NLMSG_ type below 16, else a family's id.
  package var type: UInt16
  /// NLM_F_ bits.
  package var flags: UInt16
  package var sequence: UInt32
  /// The port of the socket that asked; 0 in requests and in events.
  package var port: UInt32
  package var payload: ArraySlice<UInt8>

  package init(type: UInt16, flags: UInt16, sequence: UInt32, port: UInt32 = 0, payload: ArraySlice<UInt8>) {
    self.type = type
    self.flags = flags
    self.sequence = sequence
    self.port = port
    self.payload = payload
  }

  /// Of `struct nlmsghdr`.
  static let headerSize = 16

  /// The message as it is sent.
  package var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendNative(UInt32(clamping: NetlinkMessage.headerSize + payload.count))
    bytes.appendNative(type)
    bytes.appendNative(flags)
    bytes.appendNative(sequence)
    bytes.appendNative(port)
    return bytes + payload
  }

  /// All messages of a datagram. Throws `malformed` when one is cut short or claims more than there is.
  package static func parse(_ datagram: [UInt8]) throws(NetlinkError) -> [NetlinkMessage] {
    var messages: [NetlinkMessage] = []
    var rest = datagram[...]
    while !rest.isEmpty {
      guard let length = rest.native(UInt32.self, at: 0).map({ Int($0) }),
        let type = rest.native(UInt16.self, at: 4), let flags = rest.native(UInt16.self, at: 6),
        let sequence = rest.native(UInt32.self, at: 8), let port = rest.native(UInt32.self, at: 12)
      else { throw .malformed("a message header cut short") }
      guard length >= headerSize, length <= rest.count else {
        throw .malformed("a message of \(length) bytes where \(rest.count) are left")
      }
      let payload = rest.prefix(length).dropFirst(headerSize)
      messages.append(
        NetlinkMessage(type: type, flags: flags, sequence: sequence, port: port, payload: payload))
      // The padding of the last message may be missing.
      rest = rest.dropFirst(aligned(length))
    }
    return messages
  }

  /// The next multiple of NLMSG_ALIGNTO (also NLA_ALIGNTO), for lengths that fit into memory.
  static func aligned(_ length: Int) -> Int { (length + 3) & ~3 }
}

extension ArraySlice<UInt8> {
  /// The number in the machine's byte order at `offset` from the start; `nil` when it would reach past the end.
  func native<Number: FixedWidthInteger & BitwiseCopyable>(_: Number.Type, at offset: Int) -> Number? {
    guard offset >= 0, offset <= count, count - offset >= MemoryLayout<Number>.size else { return nil }
    return withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: Number.self) }
  }
}

extension [UInt8] {
  mutating func appendNative<Number: FixedWidthInteger>(_ number: Number) {
    Swift.withUnsafeBytes(of: number) { append(contentsOf: $0) }
  }
}
