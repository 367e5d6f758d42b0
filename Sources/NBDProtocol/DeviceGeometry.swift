/// How an export becomes a kernel block device: its logical block size, and how much of the export it holds.
package struct DeviceGeometry: Equatable, Sendable {
  /// Logical block size in bytes: a power of two from 512 to the kernel's largest.
  package var blockSize: Int
  /// Size of the device in bytes, a multiple of `blockSize`, never 0.
  package var size: UInt64
  /// Bytes at the end of the export that the device leaves out, because they don't fill a block.
  package var tail: UInt64
  /// The most data that one request may carry, in bytes: a multiple of `blockSize`, never 0.
  package var maximumRequest: Int

  /// Fits the device to the export (proto.md, "Size constraints").
  ///
  /// Without a wish the smallest block is taken that server and kernel both allow, 512 where they allow it: partition
  /// tables and file systems are laid out for a logical block size, so a device that changed it with the server's
  /// preferences would not show what was written yesterday. Larger requests are the kernel's doing anyway.
  ///
  /// - Parameters:
  ///   - wantedBlockSize: the operator's choice in bytes; `nil` for the smallest possible.
  ///   - largestBlockSize: the kernel's limit in bytes; the page size before Linux 6.15, up to 65536 after.
  package init(
    of export: ExportInfo, wantedBlockSize: Int? = nil, largestBlockSize: Int
  ) throws(GeometryError) {
    guard export.size > 0 else { throw .empty }
    guard export.size <= UInt64(Int64.max) else { throw .tooLarge(export.size) }
    let sizes = export.effectiveBlockSizes
    let smallest = max(Self.smallestBlockSize, Int(sizes.minimum))
    guard smallest <= largestBlockSize else {
      throw .minimumBlockTooLarge(server: Int(sizes.minimum), kernel: largestBlockSize)
    }
    let block = wantedBlockSize ?? smallest
    guard block >= Self.smallestBlockSize, block.nonzeroBitCount == 1 else { throw .impossibleBlockSize(block) }
    guard block >= smallest else { throw .blockBelowMinimum(wanted: block, server: smallest) }
    guard block <= largestBlockSize else { throw .blockTooLarge(wanted: block, kernel: largestBlockSize) }
    // Without a block there is no device; and a power of two above 0 makes a mask.
    let tail = export.size & UInt64(block - 1)
    guard export.size > tail else { throw .smallerThanBlock(size: export.size, block: block) }
    let maximumRequest = Int(sizes.maximumPayload) & ~(block - 1)
    guard maximumRequest > 0 else {
      throw .requestsTooSmall(maximumPayload: Int(sizes.maximumPayload), block: block)
    }
    self.blockSize = block
    self.size = export.size - tail
    self.tail = tail
    self.maximumRequest = maximumRequest
  }

  /// One sector, in bytes: less than that no Linux block device addresses.
  package static let smallestBlockSize = 512
}

/// Why an export can't become a device. All sizes in bytes.
package enum GeometryError: Error, Equatable, Sendable {
  case empty
  /// Above 2^63 − 1, where the kernel's offsets end.
  case tooLarge(UInt64)
  case smallerThanBlock(size: UInt64, block: Int)
  case minimumBlockTooLarge(server: Int, kernel: Int)
  /// Not a power of two, or below 512.
  case impossibleBlockSize(Int)
  case blockBelowMinimum(wanted: Int, server: Int)
  case blockTooLarge(wanted: Int, kernel: Int)
  /// The server takes less data in one request than a block has.
  case requestsTooSmall(maximumPayload: Int, block: Int)

  /// One line for operators, without a full stop.
  package var message: String {
    switch self {
    case .empty: "the export has size 0"
    case .tooLarge(let size): "the export's size \(size) is above the kernel's limit of 2^63 - 1 bytes"
    case .smallerThanBlock(let size, let block): "the export's \(size) bytes don't fill one block of \(block)"
    case .minimumBlockTooLarge(let server, let kernel):
      "the server's minimum block of \(server) bytes is above the kernel's largest, \(kernel)"
    case .impossibleBlockSize(let block): "a block size of \(block) bytes is no power of two from 512 up"
    case .blockBelowMinimum(let wanted, let server):
      "the block size \(wanted) is below \(server), the least that the server takes"
    case .blockTooLarge(let wanted, let kernel): "the block size \(wanted) is above the kernel's largest, \(kernel)"
    case .requestsTooSmall(let maximumPayload, let block):
      "the server takes \(maximumPayload) bytes in a request, less than a block of \(block)"
    }
  }
}
