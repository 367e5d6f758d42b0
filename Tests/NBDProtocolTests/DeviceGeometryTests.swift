import NBDProtocol
import Testing

@Suite("Sizes of a device")
struct DeviceGeometryTests {
  private func export(_ size: UInt64, _ minimum: UInt32? = nil, maximum: UInt32 = 32 << 20) -> ExportInfo {
    let sizes = minimum.map { BlockSizes(minimum: $0, preferred: max($0, 4096), maximumPayload: maximum) }
    return ExportInfo(name: "", size: size, flags: .hasFlags, blockSizes: sizes)
  }

  @Test(
    "without a wish the smallest block is taken that server and kernel allow",
    arguments: [(nil, 512), (1, 512), (512, 512), (1024, 1024), (4096, 4096)] as [(UInt32?, Int)])
  func smallest(minimum: UInt32?, block: Int) throws {
    let geometry = try DeviceGeometry(of: export(1 << 30, minimum), largestBlockSize: 4096)
    #expect(geometry.blockSize == block)
    #expect(geometry.size == 1 << 30)
    #expect(geometry.tail == 0)
    #expect(geometry.maximumRequest == 32 << 20)
  }

  @Test("a newer kernel takes a server's minimum above the page size")
  func large() throws {
    #expect(try DeviceGeometry(of: export(1 << 30, 65536), largestBlockSize: 65536).blockSize == 65536)
  }

  @Test("a minimum above what the kernel takes is refused")
  func tooLargeForKernel() {
    #expect(throws: GeometryError.minimumBlockTooLarge(server: 8192, kernel: 4096)) {
      try DeviceGeometry(of: export(1 << 30, 8192), largestBlockSize: 4096)
    }
  }

  @Test("a wish within the limits is granted", arguments: [512, 1024, 2048, 4096])
  func wish(block: Int) throws {
    let geometry = try DeviceGeometry(of: export(1 << 30, 512), wantedBlockSize: block, largestBlockSize: 4096)
    #expect(geometry.blockSize == block)
  }

  @Test("a wish beyond a limit is refused with that limit")
  func wishes() {
    func refusal(of wanted: Int, minimum: UInt32? = nil) -> GeometryError? {
      do throws(GeometryError) {
        _ = try DeviceGeometry(of: export(1 << 30, minimum), wantedBlockSize: wanted, largestBlockSize: 4096)
        return nil
      } catch { return error }
    }
    #expect(refusal(of: 8192) == .blockTooLarge(wanted: 8192, kernel: 4096))
    #expect(refusal(of: 512, minimum: 4096) == .blockBelowMinimum(wanted: 512, server: 4096))
    for impossible in [Int.min, -512, 0, 1, 256, 513, 1536, Int.max] {
      #expect(refusal(of: impossible) == .impossibleBlockSize(impossible))
    }
  }

  @Test("bytes that don't fill a block are left out, and counted")
  func tail() throws {
    let geometry = try DeviceGeometry(of: export(10_000), largestBlockSize: 4096)
    #expect(geometry.size == 9728)
    #expect(geometry.tail == 272)
    let coarse = try DeviceGeometry(of: export(10_000, 1), wantedBlockSize: 4096, largestBlockSize: 4096)
    #expect(coarse.size == 8192)
    #expect(coarse.tail == 1808)
  }

  @Test("an empty export, one smaller than a block, and one beyond 2^63 − 1 are refused")
  func extremes() throws {
    #expect(throws: GeometryError.empty) { try DeviceGeometry(of: export(0), largestBlockSize: 4096) }
    #expect(throws: GeometryError.smallerThanBlock(size: 511, block: 512)) {
      try DeviceGeometry(of: export(511), largestBlockSize: 4096)
    }
    for size in [1 << 63, .max] as [UInt64] {
      #expect(throws: GeometryError.tooLarge(size)) { try DeviceGeometry(of: export(size), largestBlockSize: 4096) }
    }
    let largest = try DeviceGeometry(of: export(UInt64(Int64.max)), largestBlockSize: 4096)
    #expect(largest.size == UInt64(Int64.max) - 511)
    #expect(try DeviceGeometry(of: export(512), largestBlockSize: 4096).size == 512)
  }

  @Test("requests are bounded by the server's maximum, in whole blocks")
  func requests() throws {
    #expect(
      try DeviceGeometry(of: export(1 << 30, 1, maximum: 70_000), largestBlockSize: 4096).maximumRequest == 69_632)
    #expect(
      try DeviceGeometry(of: export(1 << 30, 512, maximum: .max), largestBlockSize: 4096).maximumRequest
        == 4_294_966_784)
    #expect(throws: GeometryError.requestsTooSmall(maximumPayload: 256, block: 512)) {
      try DeviceGeometry(of: export(1 << 30, 1, maximum: 256), largestBlockSize: 4096)
    }
  }

  @Test("every refusal says its numbers in one line")
  func messages() {
    #expect(
      GeometryError.minimumBlockTooLarge(server: 8192, kernel: 4096).message
        == "the server's minimum block of 8192 bytes is above the kernel's largest, 4096")
    let errors: [GeometryError] = [
      .empty, .tooLarge(1 << 63), .smallerThanBlock(size: 1, block: 512), .impossibleBlockSize(3),
      .minimumBlockTooLarge(server: 2, kernel: 1), .blockBelowMinimum(wanted: 1, server: 2),
      .blockTooLarge(wanted: 2, kernel: 1), .requestsTooSmall(maximumPayload: 1, block: 512),
    ]
    #expect(Set(errors.map(\.message)).count == errors.count)
  }
}
