import NBDProtocol
import Testing

@Suite("An export seen again")
struct ExportDifferenceTests {
  private let earlier = ExportInfo(
    name: "data", size: 1 << 30, flags: [.hasFlags, .sendFlush, .sendFUA, .sendTrim, .canMultiConn],
    blockSizes: BlockSizes(minimum: 512, preferred: 4096, maximumPayload: 1 << 20))

  private func differences(blockSize: Int = 512, _ change: (inout ExportInfo) -> Void) -> [ExportDifference] {
    var export = earlier
    change(&export)
    return export.differences(from: earlier, blockSize: blockSize)
  }

  @Test("the same, larger, richer or otherwise named export is no difference")
  func compatible() {
    #expect(differences { _ in } == [])
    #expect(differences { $0.size = 2 << 30 } == [])
    #expect(differences { $0.flags.formUnion([.sendWriteZeroes, .sendCache]) } == [])
    #expect(differences { $0.name = "replica" } == [])
    #expect(differences { $0.blockSizes = BlockSizes(minimum: 1, preferred: 65536, maximumPayload: .max) } == [])
    #expect(differences { $0.blockSizes = nil } == [])
  }

  @Test("growth is told apart from the rest")
  func growth() {
    var larger = earlier
    larger.size += 4096
    #expect(larger.growth(since: earlier) == 4096)
    #expect(earlier.growth(since: larger) == 0)
  }

  @Test("a smaller export, and a changed read-only state, are differences")
  func sizeAndState() {
    #expect(differences { $0.size -= 1 } == [.smaller(was: 1 << 30, is: 1 << 30 - 1)])
    #expect(differences { $0.flags.insert(.readOnly) } == [.becameReadOnly])
    var readOnly = earlier
    readOnly.flags.insert(.readOnly)
    #expect(earlier.differences(from: readOnly, blockSize: 512) == [.becameWritable])
  }

  @Test("lost features are one difference that names them; what the kernel does not use is not missed")
  func lost() {
    let lost = differences { $0.flags.subtract([.sendFlush, .canMultiConn]) }
    #expect(lost == [.lost([.sendFlush, .canMultiConn])])
    #expect(lost.first?.message == "the server no longer offers NBD_FLAG_SEND_FLUSH, NBD_FLAG_CAN_MULTI_CONN")
    var richer = earlier
    richer.flags.formUnion([.rotational, .sendDF, .sendCache])
    #expect(earlier.differences(from: richer, blockSize: 512) == [])
  }

  @Test("a minimum block counts against the device's block, a maximum payload against the one before")
  func blocks() {
    func coarse(_ export: inout ExportInfo) {
      export.blockSizes = BlockSizes(minimum: 4096, preferred: 4096, maximumPayload: 1 << 20)
    }
    #expect(differences(coarse) == [.minimumBlockAboveDevice(minimum: 4096, blockSize: 512)])
    #expect(differences(blockSize: 4096, coarse) == [])
    let tight = differences {
      $0.blockSizes = BlockSizes(minimum: 512, preferred: 4096, maximumPayload: 65536)
    }
    #expect(tight == [.smallerPayload(was: 1 << 20, is: 65536)])
  }

  @Test("several differences are all reported")
  func several() {
    let all = differences {
      $0.size = 1
      $0.flags = [.hasFlags, .readOnly]
      $0.blockSizes = BlockSizes(minimum: 4096, preferred: 4096, maximumPayload: 4096)
    }
    #expect(all.count == 5)
    #expect(Set(all.map(\.message)).count == 5)
  }
}
