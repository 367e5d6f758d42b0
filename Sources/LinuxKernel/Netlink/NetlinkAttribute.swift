import CLinuxNBD

/// One attribute of a netlink message (`struct nlattr`).
package struct NetlinkAttribute: Equatable, Sendable {
  /// Without the flags for nesting and byte order, which the kernel does not set everywhere.
  package let type: Int
  package let value: ArraySlice<UInt8>

  static let headerSize = 4

  /// All attributes in `bytes`. Throws `malformed` when one is cut short or claims more than there is.
  package static func parse(_ bytes: ArraySlice<UInt8>) throws(NetlinkError) -> [NetlinkAttribute] {
    var attributes: [NetlinkAttribute] = []
    var rest = bytes
    while !rest.isEmpty {
      guard let length = rest.native(UInt16.self, at: 0).map({ Int($0) }), let type = rest.native(UInt16.self, at: 2)
      else { throw .malformed("an attribute header cut short") }
      guard length >= headerSize, length <= rest.count else {
        throw .malformed("an attribute of \(length) bytes where \(rest.count) are left")
      }
      let flags = UInt16(truncatingIfNeeded: NLA_F_NESTED | NLA_F_NET_BYTEORDER)
      attributes.append(
        NetlinkAttribute(type: Int(type & ~flags), value: rest.prefix(length).dropFirst(headerSize)))
      // The padding of the last attribute may be missing.
      rest = rest.dropFirst(NetlinkMessage.aligned(length))
    }
    return attributes
  }

  /// The attributes inside this one.
  package func nested() throws(NetlinkError) -> [NetlinkAttribute] { try NetlinkAttribute.parse(value) }

  /// The value as a number of exactly that many bytes, aligned or not.
  package func number<Number: FixedWidthInteger & BitwiseCopyable>(
    _ type: Number.Type = Number.self
  ) throws(NetlinkError) -> Number {
    guard value.count == MemoryLayout<Number>.size, let number = value.native(Number.self, at: 0) else {
      throw .malformed("attribute \(self.type) has \(value.count) bytes, not \(MemoryLayout<Number>.size)")
    }
    return number
  }

  /// The value up to its NUL.
  package var text: String { String(decoding: value.prefix { $0 != 0 }, as: UTF8.self) }
}

extension [NetlinkAttribute] {
  /// The first attribute of a type.
  func first(_ type: Int) -> NetlinkAttribute? { first { $0.type == type } }
}

/// Attributes on their way into a message. 64-bit values are not aligned to 8 bytes: the nbd family has no attribute to
/// pad with, and the kernel copies them out (nla_get_u64).
package struct NetlinkAttributes: Equatable, Sendable {
  package private(set) var bytes: [UInt8] = []
  /// A value was too long for its 16-bit length: the message must not be sent.
  package private(set) var isTooLong = false

  package init() {}

  package mutating func add<Number: FixedWidthInteger>(_ type: Int, _ number: Number) {
    var value: [UInt8] = []
    value.appendNative(number)
    add(type, flags: 0, value)
  }

  /// A string and the NUL that ends it.
  package mutating func add(_ type: Int, _ text: String) { add(type, flags: 0, Array(text.utf8) + [0]) }

  package mutating func addNested(_ type: Int, _ build: (inout NetlinkAttributes) -> Void) {
    var inside = NetlinkAttributes()
    build(&inside)
    isTooLong = isTooLong || inside.isTooLong
    add(type, flags: UInt16(truncatingIfNeeded: NLA_F_NESTED), inside.bytes)
  }

  private mutating func add(_ type: Int, flags: UInt16, _ value: [UInt8]) {
    let length = NetlinkAttribute.headerSize + value.count
    guard let shortLength = UInt16(exactly: length) else {
      isTooLong = true
      return
    }
    bytes.appendNative(shortLength)
    bytes.appendNative(UInt16(truncatingIfNeeded: type) | flags)
    bytes += value
    bytes += repeatElement(0, count: NetlinkMessage.aligned(length) - length)
  }
}
