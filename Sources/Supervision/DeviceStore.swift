package import Attachment
package import AttachmentModel
import FoundationEssentials
import Glibc

/// What the next process needs to take over the devices of this one, as files in a directory that outlives both but not
/// the system: one for each attachment, the names that the operator has stopped, and where he has moved which to.
///
/// A file that can't be read is as good as none: the device is then known by the kernel's own facts.
package struct DeviceStore: Sendable {
  private let path: String

  package init(path: String) { self.path = path }

  package func save(_ record: DeviceRecord) throws {
    try write(try JSONEncoder().encode(record), to: file(of: record.spec.name))
  }

  package func remove(_ name: String) { unlink(file(of: name)) }

  /// By attachment name.
  package func records() -> [String: DeviceRecord] {
    var records: [String: DeviceRecord] = [:]
    for file in (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] where file.hasSuffix(".json") {
      guard let data = try? Data(contentsOf: URL(filePath: "\(path)/\(file)")),
        let record = try? JSONDecoder().decode(DeviceRecord.self, from: data), record.isSound,
        file == "\(record.spec.name).json"
      else { continue }
      records[record.spec.name] = record
    }
    return records
  }

  package func saveStopped(_ names: Set<String>) throws {
    try write(try JSONEncoder().encode(names.sorted()), to: "\(path)/stopped")
  }

  package func stopped() -> Set<String> {
    guard let data = try? Data(contentsOf: URL(filePath: "\(path)/stopped")) else { return [] }
    return (try? JSONDecoder().decode(Set<String>.self, from: data)) ?? []
  }

  package func saveMoves(_ moves: [String: Move]) throws {
    try write(try JSONEncoder().encode(moves), to: "\(path)/moved")
  }

  /// By attachment name.
  package func moves() -> [String: Move] {
    guard let data = try? Data(contentsOf: URL(filePath: "\(path)/moved")) else { return [:] }
    return (try? JSONDecoder().decode([String: Move].self, from: data)) ?? [:]
  }

  /// An attachment's name is safe in a path: letters, digits, `.`, `_`, `-`.
  private func file(of name: String) -> String { "\(path)/\(name).json" }

  private func write(_ data: Data, to file: String) throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try data.write(to: URL(filePath: file), options: .atomic)
  }
}

/// An attachment leads to another server than is declared, until other servers are declared.
package struct Move: Equatable, Sendable, Codable {
  package var server: ServerURI
  /// Those that were declared when it was moved.
  package var declared: [ServerURI]

  package init(server: ServerURI, declared: [ServerURI]) {
    self.server = server
    self.declared = declared
  }
}

extension DeviceRecord {
  /// Its numbers are such as a device of ours can have.
  fileprivate var isSound: Bool {
    let parameters = identity.parameters
    return (try? AttachmentSpec.checkName(spec.name)) != nil && index >= 0 && (1...16).contains(identity.linkCount)
      && (512...65536).contains(parameters.blockSize) && parameters.blockSize.nonzeroBitCount == 1
      && parameters.size > 0 && parameters.maximumRequest > 0
  }
}
