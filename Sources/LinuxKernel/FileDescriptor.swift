import Glibc

/// An open file that exactly one owner closes.
///
/// It must not be waited for any more when it goes (DescriptorWatcher): its number is used again.
package struct FileDescriptor: ~Copyable, Sendable {
  package let number: Int32

  /// Takes ownership of `number`, which must be open.
  package init(owning number: Int32) { self.number = number }

  deinit { _ = Glibc.close(number) }

  /// Gives up ownership: the caller closes it.
  package consuming func release() -> Int32 {
    let number = number
    discard self
    return number
  }

  /// Opens `path` with close-on-exec. Throws what open(2) answers.
  package static func open(_ path: String, _ flags: Int32 = O_RDONLY) throws(SystemCallError) -> FileDescriptor {
    FileDescriptor(owning: try retryingOnEINTR("open \(path)") { Glibc.open(path, flags | O_CLOEXEC) })
  }

  /// A second number for the open file `number`, with close-on-exec.
  package static func duplicating(_ number: Int32) throws(SystemCallError) -> FileDescriptor {
    FileDescriptor(owning: try retryingOnEINTR("fcntl F_DUPFD_CLOEXEC") { fcntl(number, F_DUPFD_CLOEXEC, 0) })
  }
}

/// The contents of a small text file, such as one of sysfs, less its final newline; `nil` when it can't be read or is
/// longer than `limit` bytes.
package func readSmallFile(_ path: String, limit: Int = 65536) -> String? {
  guard let file = try? FileDescriptor.open(path) else { return nil }
  var bytes: [UInt8] = []
  var chunk = [UInt8](repeating: 0, count: 4096)
  while true {
    let count = read(file.number, &chunk, chunk.count)
    if count == 0 { break }
    if count < 0 {
      if errno == EINTR { continue }
      return nil
    }
    bytes.append(contentsOf: chunk[..<count])
    if bytes.count > limit { return nil }
  }
  if bytes.last == UInt8(ascii: "\n") { bytes.removeLast() }
  return String(decoding: bytes, as: UTF8.self)
}

/// Writes `text` in one call to an existing file, such as one of sysfs.
func writeSmallFile(_ path: String, _ text: String) throws(SystemCallError) {
  let number = try FileDescriptor.open(path, O_WRONLY).release()
  defer { close(number) }
  let bytes = Array(text.utf8)
  _ = try retryingOnEINTR("write \(path)") { write(number, bytes, bytes.count) }
}

/// The names in a directory less `.` and `..`, sorted; empty when it can't be read.
func directoryEntries(_ path: String) -> [String] {
  guard let directory = opendir(path) else { return [] }
  defer { closedir(directory) }
  var names: [String] = []
  while let entry = readdir(directory) {
    let name = withUnsafeBytes(of: &entry.pointee.d_name) {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    if name != "." && name != ".." { names.append(name) }
  }
  return names.sorted()
}
