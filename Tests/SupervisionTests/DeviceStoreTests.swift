import Attachment
import AttachmentModel
import Foundation
import Glibc
import NBDProtocol
import Testing

@testable import Supervision

@Suite("what is kept for the next process")
struct DeviceStoreTests {
  private let directory: TemporaryDirectory
  private let store: DeviceStore

  init() throws {
    directory = try TemporaryDirectory()
    store = DeviceStore(path: "\(directory.path)/devices")
  }

  private func record(_ name: String = "data", _ adjust: (inout DeviceRecord) -> Void = { _ in }) throws -> DeviceRecord
  {
    let server = try ServerURI(parsing: "nbd://h/\(name)")
    var record = DeviceRecord(
      spec: AttachmentSpec(name: name, servers: [server]), index: 3, interface: .netlink,
      identity: DeviceIdentity(
        server: server, export: ExportInfo(name: name, size: 1 << 20, flags: [.hasFlags]),
        parameters: DeviceParameters(
          blockSize: 512, size: 1 << 20, maximumRequest: 1 << 20, flags: [.hasFlags], requestTimeout: .seconds(7),
          reconnectTimeout: nil),
        linkCount: 1))
    adjust(&record)
    return record
  }

  @Test("records come back as they were, the last of each name, until they are removed")
  func roundTrip() throws {
    #expect(store.records().isEmpty)
    try store.save(try record("a"))
    try store.save(try record("b..b-_9"))
    try store.save(try record("a") { $0.index = 9 })
    #expect(store.records() == ["a": try record("a") { $0.index = 9 }, "b..b-_9": try record("b..b-_9")])
    store.remove("a")
    store.remove("never-there")
    #expect(store.records().keys.sorted() == ["b..b-_9"])
  }

  @Test("where the operator has moved an attachment comes back, and is no record")
  func moves() throws {
    #expect(store.moves() == [:])
    let (old, new) = (try ServerURI(parsing: "nbd://h/a"), try ServerURI(parsing: "nbd+unix:///a?socket=/b"))
    try store.saveMoves(["a": Move(server: new, declared: [old])])
    #expect(store.moves() == ["a": Move(server: new, declared: [old])])
    #expect(store.records() == [:])
    try store.saveMoves([:])
    #expect(store.moves() == [:])
  }

  @Test("what the operator has stopped comes back, and is no record")
  func stopped() throws {
    #expect(store.stopped() == [])
    try store.saveStopped(["a", "b"])
    #expect(store.stopped() == ["a", "b"])
    try store.saveStopped([])
    #expect(store.stopped() == [])
    try store.save(try record("stopped"))
    #expect(store.stopped() == [])
    #expect(store.records().keys.sorted() == ["stopped"])
  }

  @Test(
    "files that are no records are passed over",
    arguments: [
      "", "{", "[]", "null", "{\"spec\": 1}", String(repeating: "[", count: 20_000), "\u{0}\u{1}", "{\"index\": 1e400}",
    ])
  func garbage(text: String) throws {
    try store.save(try record("sound"))
    try directory.write(text, to: "devices/data.json")
    try directory.write(text, to: "devices/stopped")
    try FileManager.default.createDirectory(
      atPath: "\(directory.path)/devices/folder.json", withIntermediateDirectories: false)
    #expect(store.records().keys.sorted() == ["sound"])
    #expect(store.stopped() == [])
  }

  @Test("a record under another's name is not taken for that one's")
  func otherName() throws {
    try store.save(try record("evil"))
    try FileManager.default.moveItem(
      atPath: "\(directory.path)/devices/evil.json", toPath: "\(directory.path)/devices/data.json")
    #expect(store.records().isEmpty)
  }

  @Test("numbers that no device of ours has are refused, before anybody calculates with them")
  func senseless() throws {
    let changes: [@Sendable (inout DeviceRecord) -> Void] = [
      { $0.index = -1 }, { $0.identity.linkCount = .min }, { $0.identity.linkCount = 0 },
      { $0.identity.linkCount = 17 }, { $0.identity.parameters.blockSize = 0 },
      { $0.identity.parameters.blockSize = 513 }, { $0.identity.parameters.blockSize = 1 << 20 },
      { $0.identity.parameters.size = 0 }, { $0.identity.parameters.maximumRequest = -1 },
    ]
    for change in changes {
      try store.save(try record("data", change))
      #expect(store.records().isEmpty)
    }
    try store.save(try record())
    #expect(store.records().count == 1)
  }

  @Test("names that are no attachment's are refused")
  func badName() throws {
    try FileManager.default.createDirectory(atPath: "\(directory.path)/devices", withIntermediateDirectories: true)
    for name in [".hidden", "-x", "a b"] {
      let data = try JSONEncoder().encode(try record("a") { $0.spec.name = name })
      try data.write(to: URL(filePath: "\(directory.path)/devices/\(name).json"))
    }
    #expect(store.records().isEmpty)
  }
}
