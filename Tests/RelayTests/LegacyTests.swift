import ForgetfulServer
import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel
import Testing

@testable import Relay

/// The bytes between two processes, of which the second believes nothing.
@Suite("What a relay leaves")
struct LegacyTests {
  private static let name = "nbdattach:data"

  private static let writes = [
    LoggedWrite(.write, offset: 4096, length: 5), LoggedWrite(.trim, offset: 0, length: 1 << 31),
    LoggedWrite(.write, flags: .fua, offset: 1 << 40, length: 3),
    LoggedWrite(.writeZeroes, flags: .noHole, offset: 512, length: 512),
  ]

  /// Five bytes of 1 and three of 2.
  private static func make(_ errors: OwedErrors = OwedErrors(toFUA: true)) throws -> Legacy {
    let bytes: [UInt8] = [1, 1, 1, 1, 1, 2, 2, 2]
    return try bytes.withUnsafeBytes { bytes in
      try Legacy.make(of: name, owing: errors, writes) { write in
        guard write.command == .write else { return nil }
        return UnsafeRawBufferPointer(rebasing: write.length == 5 ? bytes[..<5] : bytes[5...])
      }
    }
  }

  /// The bytes of a sound one, to be spoilt.
  private static func bytes() throws -> [UInt8] {
    let legacy = try make()
    var bytes = [UInt8](repeating: 0, count: legacy.payloadStart + legacy.bytes)
    try bytes.withUnsafeMutableBytes { try legacy.read(into: $0, at: 0) }
    return bytes
  }

  private static func file(_ bytes: [UInt8], isSealed: Bool = true) throws -> OpenFile {
    let memory = try MemoryFile(named: "test")
    try bytes.withUnsafeBytes { try memory.append($0) }
    if isSealed { try memory.seal() }
    return memory.file
  }

  private static func reading(_ bytes: [UInt8]) throws -> Legacy { try Legacy(reading: try file(bytes), of: name) }

  @Test("what was left is read as it was, payloads too")
  func roundTrip() throws {
    let left = try Self.make()
    let legacy = try Legacy(reading: left.file, of: Self.name)
    #expect(legacy.identifier == left.identifier && legacy.count == 4 && legacy.bytes == 8)
    #expect(legacy.errors == OwedErrors(toFUA: true))
    #expect(try legacy.writes() == Self.writes)
    var payload = [UInt8](repeating: 0, count: 8)
    try payload.withUnsafeMutableBytes { try legacy.read(into: $0, at: legacy.payloadStart) }
    #expect(payload == [1, 1, 1, 1, 1, 2, 2, 2])
    let errors = try Legacy.ofErrors(of: Self.name)
    #expect(errors.count == 0 && errors.errors == OwedErrors(toFlush: true, toFUA: true))
    #expect(try Legacy.make(of: "x", owing: OwedErrors(), []) { _ in nil }.identifier != left.identifier)
  }

  @Test("nobody can change it; who has it can empty it, for all")
  func sealed() throws {
    let legacy = try Self.make()
    #expect(pwrite(legacy.file.number, "x", 1, 0) == -1)
    #expect(ftruncate(legacy.file.number, 1 << 20) == -1)
    let copy = try #require(OpenFile.duplicating(legacy.file.number))
    #expect(!Legacy.isSpent(copy))
    try legacy.spend()
    #expect(Legacy.isSpent(copy))
    #expect(throws: LegacyError.self) { try Legacy(reading: copy, of: Self.name) }
  }

  @Test("another's is told from one's own")
  func foreign() throws {
    let file = try Self.make().file
    #expect(throws: LegacyError.foreign("\"nbdattach:data\"")) { try Legacy(reading: file, of: "nbdattach:other") }
    #expect(try Legacy(reading: file, of: nil).bytes == 8)
  }

  @Test("one that is cut anywhere is refused, and one that has more than it says")
  func truncated() throws {
    let bytes = try Self.bytes()
    for count in 0..<bytes.count {
      #expect(throws: LegacyError.self, "\(count) bytes") { try Self.reading(Array(bytes[..<count])) }
    }
    #expect(throws: LegacyError.self) { try Self.reading(bytes + [0]) }
  }

  /// Places and what is put there.
  @Test(
    "headers and entries that can't be are refused, with what is wrong",
    arguments: [
      (0, [0x6e, 0x62, 0x64, 0x61, 0x6c, 0x6f, 0x67, 0x01]), (11, [2]), (8, [1]), (15, [4]), (12, [0x80]),
      // Counts: one more, one less, huge.
      (27, [5]), (27, [3]), (24, [0xff, 0xff, 0xff, 0xff]), (24, [0, 2, 0, 1]),
      // Lengths of the name and of all payloads.
      (28, [0, 0, 0, 217]), (28, [0xff, 0xff, 0xff, 0xff]), (39, [9]),
      (32, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), (32, [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
      // Entries: the end of a disk behind the last number, lengths over the payload's, commands.
      (256, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), (256 + 8, [0xff, 0xff, 0xff, 0xff]),
      (256 + 8, [0, 0, 0, 6]), (256 + 8, [0, 0, 0, 4]), (256 + 8, [2, 0, 0, 1]), (256 + 12, [0, 0]),
      (256 + 12, [0, 3]), (256 + 12, [0, 4]), (256 + 16 + 12, [0, 1]), (256 + 12, [0xff, 0xff]),
    ] as [(Int, [UInt8])])
  func senseless(place: Int, put: [UInt8]) throws {
    var bytes = try Self.bytes()
    _ = try Self.reading(bytes)
    bytes.replaceSubrange(place..<place + put.count, with: put)
    #expect(throws: LegacyError.self) { try Self.reading(bytes) }
  }

  @Test("any bytes at all are refused or read, and never end the process")
  func mutations() throws {
    let sound = try Self.bytes()
    var chance = SeededRandom(seed: 5)
    for _ in 0..<3000 {
      var bytes = sound
      for _ in 0..<Int.random(in: 1...6, using: &chance) {
        bytes[Int.random(in: 0..<bytes.count, using: &chance)] = UInt8.random(in: .min ... .max, using: &chance)
      }
      if Bool.random(using: &chance) { bytes.removeLast(Int.random(in: 0...bytes.count, using: &chance)) }
      if let legacy = try? Self.reading(bytes) {
        #expect(legacy.bytes == 8)
        _ = try legacy.writes()
      }
    }
  }

  @Test("a file with holes, one that is not sealed, one on a disk, a pipe and a read-only one are refused")
  func otherFiles() async throws {
    var huge = try Self.bytes()
    // 4 TiB of payload in three bytes of memory.
    huge.replaceSubrange(32..<40, with: [0, 0, 4, 0, 0, 0, 0, 0])
    let memory = try MemoryFile(named: "test")
    try huge.withUnsafeBytes { try memory.append($0) }
    _ = ftruncate(memory.file.number, 256 + 4 * 16 + (4 << 40))
    try memory.seal()
    #expect(throws: LegacyError.malformed("it has holes")) { try Legacy(reading: memory.file, of: nil) }

    let open = try Self.file(try Self.bytes(), isSealed: false)
    #expect(throws: LegacyError.self) { try Legacy(reading: open, of: nil) }
    #expect(!Legacy.isSpent(open))
    for path in ["/proc/self/exe", "/dev/null", "/dev/zero"] {
      let file = OpenFile(try FileDescriptor.open(path))
      #expect(throws: LegacyError.self) { try Legacy(reading: file, of: nil) }
      #expect(!Legacy.isSpent(file))
    }
    let sound = try Self.make()
    let readOnly = OpenFile(try FileDescriptor.open("/proc/self/fd/\(sound.file.number)"))
    #expect(throws: LegacyError.self) { try Legacy(reading: readOnly, of: nil) }
  }
}
