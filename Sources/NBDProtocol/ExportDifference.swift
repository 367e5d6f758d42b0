/// Something in which an export, seen again on another connection, is not what the device was made from.
package enum ExportDifference: Equatable, Sendable {
  /// In bytes. (A larger export is no difference: see `ExportInfo.growth(since:)`.)
  case smaller(was: UInt64, is: UInt64)
  case becameReadOnly
  case becameWritable
  /// Features that the kernel was told of, and that are gone.
  case lost(TransmissionFlags)
  /// The server's minimum block is now above the device's logical block size; in bytes.
  case minimumBlockAboveDevice(minimum: UInt32, blockSize: Int)
  /// Requests that the kernel may send are now too large; in bytes.
  case smallerPayload(was: UInt32, is: UInt32)

  /// One line for operators, without a full stop.
  package var message: String {
    switch self {
    case .smaller(let was, let now): "the export shrank from \(was) to \(now) bytes"
    case .becameReadOnly: "the export was writable and is read-only now"
    case .becameWritable: "the export was read-only and is writable now"
    case .lost(let flags): "the server no longer offers \(flags.names.joined(separator: ", "))"
    case .minimumBlockAboveDevice(let minimum, let blockSize):
      "the server's minimum block is now \(minimum) bytes, above the device's \(blockSize)"
    case .smallerPayload(let was, let now):
      "the server now takes \(now) bytes in a request, and before \(was)"
    }
  }
}

extension ExportInfo {
  /// What forbids this export to take the place of `earlier` under a device with that logical block size (in bytes);
  /// empty where nothing does. The name is not compared: another server may use another.
  package func differences(from earlier: ExportInfo, blockSize: Int) -> [ExportDifference] {
    var differences: [ExportDifference] = []
    if size < earlier.size { differences.append(.smaller(was: earlier.size, is: size)) }
    switch (earlier.flags.contains(.readOnly), flags.contains(.readOnly)) {
    case (false, true): differences.append(.becameReadOnly)
    case (true, false): differences.append(.becameWritable)
    case (true, true), (false, false): break
    }
    let lost = earlier.flags.intersection(.used).subtracting(flags)
    if !lost.isEmpty { differences.append(.lost(lost)) }
    let (was, now) = (earlier.effectiveBlockSizes, effectiveBlockSizes)
    if now.minimum > blockSize {
      differences.append(.minimumBlockAboveDevice(minimum: now.minimum, blockSize: blockSize))
    }
    if now.maximumPayload < was.maximumPayload {
      differences.append(.smallerPayload(was: was.maximumPayload, is: now.maximumPayload))
    }
    return differences
  }

  /// How many bytes the export has gained since; 0 where it has not grown.
  package func growth(since earlier: ExportInfo) -> UInt64 { size > earlier.size ? size - earlier.size : 0 }
}

extension TransmissionFlags {
  /// What the kernel's driver acts on, and so must not lose under a live device.
  fileprivate static let used: TransmissionFlags = [
    .sendFlush, .sendFUA, .sendTrim, .sendWriteZeroes, .canMultiConn,
  ]

  /// The names in proto.md of the flags that are set, such as `NBD_FLAG_SEND_TRIM`, in the order of their bits.
  package var names: [String] {
    let known: [(TransmissionFlags, String)] = [
      (.hasFlags, "NBD_FLAG_HAS_FLAGS"), (.readOnly, "NBD_FLAG_READ_ONLY"), (.sendFlush, "NBD_FLAG_SEND_FLUSH"),
      (.sendFUA, "NBD_FLAG_SEND_FUA"), (.rotational, "NBD_FLAG_ROTATIONAL"), (.sendTrim, "NBD_FLAG_SEND_TRIM"),
      (.sendWriteZeroes, "NBD_FLAG_SEND_WRITE_ZEROES"), (.sendDF, "NBD_FLAG_SEND_DF"),
      (.canMultiConn, "NBD_FLAG_CAN_MULTI_CONN"), (.sendResize, "NBD_FLAG_SEND_RESIZE"),
      (.sendCache, "NBD_FLAG_SEND_CACHE"), (.sendFastZero, "NBD_FLAG_SEND_FAST_ZERO"),
      (.blockStatusPayload, "NBD_FLAG_BLOCK_STATUS_PAYLOAD"),
    ]
    return known.filter { contains($0.0) }.map(\.1)
  }
}
