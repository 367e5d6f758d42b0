package import LinuxKernel
import NBDProtocol
package import RelayModel

/// What a relay leaves to the one of the next process, in memory that outlives both: the acknowledged writes that are not
/// known to be safe, and the errors that the kernel has not been told.
///
/// It is good for as long as no newer write has been acknowledged: after that a replay would put old data over new. So
/// whoever has inherited it keeps it as it is until the log is on a server of its own and the first request of the kernel
/// is about to go out, and empties it then (`spend`), before any answer can reach the kernel. That is one system call
/// that can't come late, whoever else still has the file open, the service manager's store for one, and whatever ends
/// this process. A process that ends before leaves it to the third, who does the same from the start.
package final class Legacy: Sendable {
  /// In memory, sealed.
  package let file: OpenFile
  /// Of this one among all; so that one which somebody has kept for too long is not taken for the newest.
  package let identifier: UInt64
  /// Acknowledged writes.
  package let count: Int
  /// Payload of them, in bytes.
  package let bytes: Int
  package let errors: OwedErrors
  package var owesErrors: Bool { !errors.isEmpty }

  private let memory: MemoryFile
  private let header: LegacyFormat.Header

  private init(_ memory: MemoryFile, _ header: LegacyFormat.Header) {
    self.memory = memory
    self.header = header
    file = memory.file
    identifier = header.identifier
    count = header.count
    bytes = header.payload
    errors = header.owed
  }

  // MARK: Leaving

  /// `name`: of the device, by which the next process knows it; at most 216 bytes. `payload` gives the bytes of a WRITE.
  /// Throws what memfd_create(2), write(2) or fcntl(2) answer.
  static func make(
    of name: String, owing errors: OwedErrors, _ writes: [LoggedWrite],
    payload: (LoggedWrite) -> UnsafeRawBufferPointer?
  ) throws(SystemCallError) -> Legacy {
    let memory = try MemoryFile(named: "nbdattach-log")
    let payloads = writes.map { payload($0) }
    let header = LegacyFormat.Header(
      identifier: .random(in: 1 ... .max), name: name, owed: errors, count: writes.count,
      payload: payloads.reduce(0) { $0 + ($1?.count ?? 0) })
    let size = LegacyFormat.headerSize + writes.count * LegacyFormat.entrySize
    let front = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
    defer { front.deallocate() }
    LegacyFormat.encode(header, into: front)
    LegacyFormat.encode(writes, into: UnsafeMutableRawBufferPointer(rebasing: front[LegacyFormat.headerSize...]))
    try memory.append(UnsafeRawBufferPointer(front))
    for payload in payloads {
      if let payload { try memory.append(payload) }
    }
    try memory.seal()
    return Legacy(memory, header)
  }

  /// In the place of one that is lost or can't be read: the kernel hears at its next FLUSH and FUA that data may be lost.
  package static func ofErrors(of name: String) throws(SystemCallError) -> Legacy {
    try make(of: name, owing: OwedErrors(toFlush: true, toFUA: true), []) { _ in nil }
  }

  // MARK: Inheriting

  /// Whether it has nothing in it, as after `spend`.
  package static func isSpent(_ file: OpenFile) -> Bool {
    (try? MemoryFile(adopting: file).size().length) == 0
  }

  /// One of a former process, of the device of that name; `nil`: of any. Reads all but the payloads, and believes nothing.
  package convenience init(reading file: OpenFile, of name: String?) throws(LegacyError) {
    let memory: MemoryFile
    let length: Int
    let front: UnsafeMutableRawBufferPointer
    do throws(SystemCallError) {
      memory = try MemoryFile(adopting: file)
      let size = try memory.size()
      // What takes no memory now would take as much as it says when it is read.
      length = size.held >= size.length ? size.length : -1
      front = try Legacy.read(memory, min(LegacyFormat.headerSize, max(length, 0)), at: 0)
    } catch {
      throw .unreadable("\(error)")
    }
    defer { front.deallocate() }
    guard length >= 0 else { throw .malformed("it has holes") }
    let header = try LegacyFormat.header(in: UnsafeRawBufferPointer(front), length: length)
    if let name, header.name != name { throw .foreign(quoted(header.name)) }
    self.init(memory, header)
    _ = try writes()
  }

  /// In the order in which they were acknowledged, without the places of their payloads, which follow each other in the
  /// file from `payloadStart` on.
  func writes() throws(LegacyError) -> [LoggedWrite] {
    let table: UnsafeMutableRawBufferPointer
    do throws(SystemCallError) {
      table = try Legacy.read(memory, count * LegacyFormat.entrySize, at: LegacyFormat.headerSize)
    } catch {
      throw .unreadable("\(error)")
    }
    defer { table.deallocate() }
    return try LegacyFormat.writes(in: UnsafeRawBufferPointer(table), of: header)
  }

  var payloadStart: Int { LegacyFormat.headerSize + count * LegacyFormat.entrySize }

  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemCallError) {
    try memory.read(into: buffer, at: offset)
  }

  private static func read(
    _ memory: MemoryFile, _ count: Int, at offset: Int
  ) throws(SystemCallError) -> UnsafeMutableRawBufferPointer {
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 8)
    do throws(SystemCallError) { try memory.read(into: buffer, at: offset) } catch {
      buffer.deallocate()
      throw error
    }
    return buffer
  }

  /// Nobody can inherit it any more. Throws what ftruncate(2) answers.
  package func spend() throws(SystemCallError) { try memory.empty() }
}
