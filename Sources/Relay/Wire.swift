import NBDProtocol

/// Headers as they lie in the relay's buffers, at any alignment. The caller has checked that the bytes are there.
enum Wire {
  static let requestSize = Request.byteCount
  static let replySize = SimpleReply.byteCount

  @inline(__always)
  static func load<T: FixedWidthInteger & BitwiseCopyable>(_ address: UnsafeRawPointer, _ offset: Int) -> T {
    T(bigEndian: address.loadUnaligned(fromByteOffset: offset, as: T.self))
  }

  @inline(__always)
  static func store<T: FixedWidthInteger & BitwiseCopyable>(
    _ value: T, _ address: UnsafeMutableRawPointer, _ offset: Int
  ) {
    address.storeBytes(of: value.bigEndian, toByteOffset: offset, as: T.self)
  }

  /// `nil`: the magic is wrong.
  @inline(__always)
  static func request(at address: UnsafeRawPointer) -> Request? {
    guard load(address, 0) == TransmissionMagic.request else { return nil }
    return Request(
      CommandCode(rawValue: load(address, 6)), flags: CommandFlags(rawValue: load(address, 4)),
      cookie: load(address, 8), offset: load(address, 16), length: load(address, 24))
  }

  @inline(__always)
  static func write(_ request: Request, at address: UnsafeMutableRawPointer) {
    store(TransmissionMagic.request, address, 0)
    store(request.flags.rawValue, address, 4)
    store(request.command.rawValue, address, 6)
    store(request.cookie, address, 8)
    store(request.offset, address, 16)
    store(request.length, address, 24)
  }

  @inline(__always)
  static func writeReply(cookie: UInt64, error: UInt32, at address: UnsafeMutableRawPointer) {
    store(TransmissionMagic.simpleReply, address, 0)
    store(error, address, 4)
    store(cookie, address, 8)
  }
}
