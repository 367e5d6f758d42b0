extension RawSpan {
  /// The big-endian integer at `offset`, of any alignment; `nil` where it would pass the end.
  @inline(__always)
  func bigEndian<T: FixedWidthInteger & BitwiseCopyable>(_ type: T.Type = T.self, at offset: Int) -> T? {
    guard offset >= 0, offset <= byteCount, byteCount - offset >= MemoryLayout<T>.size else { return nil }
    return unsafe T(bigEndian: unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: T.self))
  }
}

extension [UInt8] {
  mutating func append(bigEndian value: some FixedWidthInteger) {
    unsafe Swift.withUnsafeBytes(of: value.bigEndian) { unsafe append(contentsOf: $0) }
  }
}
