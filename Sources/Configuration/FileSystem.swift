import Glibc

/// The files of this machine, as far as the configuration needs them.
enum FileSystem {
  struct Failure: Error {
    /// `errno` of the call that failed; 0 where the reason is none of the kernel's.
    var code: Int32
    var reason: String

    init(_ code: Int32) {
      self.code = code
      reason = String(cString: strerror(code))
    }

    init(_ reason: String) {
      code = 0
      self.reason = reason
    }

    var isMissing: Bool { code == ENOENT || code == ENOTDIR }
  }

  enum Kind {
    case file
    case directory
  }

  static func kind(_ path: String) throws(Failure) -> Kind {
    var status = stat()
    guard stat(path, &status) == 0 else { throw Failure(errno) }
    return status.st_mode & S_IFMT == S_IFDIR ? .directory : .file
  }

  /// The content of a regular file, and no more than `limit + 1` bytes of it.
  ///
  /// Opens without waiting, so that a FIFO or a device in the place of a file can't hang us.
  static func read(_ path: String, limit: Int) throws(Failure) -> [UInt8] {
    let fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard fd >= 0 else { throw Failure(errno) }
    defer { close(fd) }
    var status = stat()
    guard fstat(fd, &status) == 0 else { throw Failure(errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw Failure("not a regular file") }
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65_536)
    while content.count <= limit {
      let wanted = min(buffer.count, limit + 1 - content.count)
      let count = Glibc.read(fd, &buffer, wanted)
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw Failure(errno) }
      if count == 0 { break }
      content += buffer.prefix(count)
    }
    return content
  }

  /// The names in a directory in the order of their bytes, but for those with a leading dot; throws past 10,000.
  static func names(in path: String) throws(Failure) -> [String] {
    guard let directory = opendir(path) else { throw Failure(errno) }
    defer { closedir(directory) }
    var names: [String] = []
    while true {
      errno = 0
      guard let entry = readdir(directory) else {
        if errno != 0 { throw Failure(errno) }
        break
      }
      // d_name is a NUL-terminated array; its tuple ends with the entry.
      let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
        pointer.withMemoryRebound(to: CChar.self, capacity: MemoryLayout.size(ofValue: pointer.pointee)) {
          String(cString: $0)
        }
      }
      if name.hasPrefix(".") { continue }
      guard names.count < 10_000 else { throw Failure("it has more than 10000 entries") }
      names.append(name)
    }
    return names.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// See `KeyFileInspector`.
  static func keyFileStatus(_ path: String) -> KeyFileStatus {
    var status = stat()
    guard stat(path, &status) == 0 else {
      let failure = Failure(errno)
      if failure.isMissing { return .missing }
      return failure.code == EACCES ? .hidden(failure.reason) : .unusable(failure.reason)
    }
    guard status.st_mode & S_IFMT == S_IFREG else { return .unusable("not a regular file") }
    return .file(owner: status.st_uid, mode: status.st_mode & 0o7777)
  }
}
