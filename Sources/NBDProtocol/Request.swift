/// Bytes that can't be the message that was due.
package enum WireError: Error, Equatable, Sendable {
  /// Fewer bytes than the fixed size of the message.
  case truncated(Int)
  /// The first four bytes are another number.
  case wrongMagic(UInt32)
}

/// A compact request, 28 bytes on the wire (proto.md, "Request message"); the data of a write follows it.
package struct Request: Equatable, Sendable {
  /// On the wire, in bytes.
  package static let byteCount = 28

  package var flags: CommandFlags
  package var command: CommandCode
  /// Given back in the reply; unique among those pending.
  package var cookie: UInt64
  /// In bytes from the start of the export; 0 for `disconnect` and `flush`.
  package var offset: UInt64
  /// In bytes; 0 for `disconnect` and `flush`.
  package var length: UInt32

  package init(
    _ command: CommandCode, flags: CommandFlags = [], cookie: UInt64, offset: UInt64 = 0, length: UInt32 = 0
  ) {
    self.flags = flags
    self.command = command
    self.cookie = cookie
    self.offset = offset
    self.length = length
  }

  /// Reads the first 28 bytes; what follows them is not looked at.
  package init(reading bytes: RawSpan) throws(WireError) {
    guard let magic = bytes.bigEndian(UInt32.self, at: 0),
      let flags = bytes.bigEndian(UInt16.self, at: 4),
      let command = bytes.bigEndian(UInt16.self, at: 6),
      let cookie = bytes.bigEndian(UInt64.self, at: 8),
      let offset = bytes.bigEndian(UInt64.self, at: 16),
      let length = bytes.bigEndian(UInt32.self, at: 24)
    else { throw .truncated(bytes.byteCount) }
    guard magic == TransmissionMagic.request else { throw .wrongMagic(magic) }
    self.init(
      CommandCode(rawValue: command), flags: CommandFlags(rawValue: flags), cookie: cookie, offset: offset,
      length: length)
  }

  /// The 28 bytes, without a heap allocation.
  package var encoded: InlineArray<28, UInt8> {
    var message = InlineArray<28, UInt8>(repeating: 0)
    var span = message.mutableSpan
    var bytes = span.mutableBytes
    bytes.storeBytes(of: TransmissionMagic.request.bigEndian, toByteOffset: 0, as: UInt32.self)
    bytes.storeBytes(of: flags.rawValue.bigEndian, toByteOffset: 4, as: UInt16.self)
    bytes.storeBytes(of: command.rawValue.bigEndian, toByteOffset: 6, as: UInt16.self)
    bytes.storeBytes(of: cookie.bigEndian, toByteOffset: 8, as: UInt64.self)
    bytes.storeBytes(of: offset.bigEndian, toByteOffset: 16, as: UInt64.self)
    bytes.storeBytes(of: length.bigEndian, toByteOffset: 24, as: UInt32.self)
    return message
  }

  /// The 28 bytes as an array, for where an allocation does not matter.
  package var bytes: [UInt8] { Array(copying: encoded.span) }
}

/// A simple reply, 16 bytes on the wire (proto.md, "Simple reply message"); the data of a successful read follows it.
package struct SimpleReply: Equatable, Sendable {
  /// On the wire, in bytes.
  package static let byteCount = 16

  /// `nil`: success.
  package var error: ErrorCode?
  package var cookie: UInt64

  package init(error: ErrorCode? = nil, cookie: UInt64) {
    self.error = error
    self.cookie = cookie
  }

  /// Reads the first 16 bytes; what follows them is not looked at.
  package init(reading bytes: RawSpan) throws(WireError) {
    guard let magic = bytes.bigEndian(UInt32.self, at: 0),
      let error = bytes.bigEndian(UInt32.self, at: 4),
      let cookie = bytes.bigEndian(UInt64.self, at: 8)
    else { throw .truncated(bytes.byteCount) }
    guard magic == TransmissionMagic.simpleReply else { throw .wrongMagic(magic) }
    self.init(error: ErrorCode(reply: error), cookie: cookie)
  }

  /// The 16 bytes, without a heap allocation.
  package var encoded: InlineArray<16, UInt8> {
    var message = InlineArray<16, UInt8>(repeating: 0)
    var span = message.mutableSpan
    var bytes = span.mutableBytes
    bytes.storeBytes(of: TransmissionMagic.simpleReply.bigEndian, toByteOffset: 0, as: UInt32.self)
    bytes.storeBytes(of: (error?.rawValue ?? 0).bigEndian, toByteOffset: 4, as: UInt32.self)
    bytes.storeBytes(of: cookie.bigEndian, toByteOffset: 8, as: UInt64.self)
    return message
  }

  /// The 16 bytes as an array, for where an allocation does not matter.
  package var bytes: [UInt8] { Array(copying: encoded.span) }
}

extension [UInt8] {
  fileprivate init(copying span: Span<UInt8>) {
    self.init()
    reserveCapacity(span.count)
    for index in span.indices { append(span[index]) }
  }
}
