import CGnuTLS
import Glibc

/// Bytes that nobody may find in memory later: wiped when they go, and never copied.
final class Secret {
  private let storage: UnsafeMutableRawBufferPointer
  let count: Int

  /// Takes at most `limit + 1` bytes from what `read` gives; it returns 0 at the end.
  init<Failure: Error>(
    limit: Int, _ read: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
  ) throws(Failure) {
    storage = .allocate(byteCount: limit + 1, alignment: 16)
    var filled = 0
    while filled < storage.count {
      let piece: Int
      do throws(Failure) {
        piece = try read(UnsafeMutableRawBufferPointer(rebasing: storage[filled...]))
      } catch {
        Secret.wipe(storage)
        storage.deallocate()
        throw error
      }
      if piece <= 0 { break }
      filled += min(piece, storage.count - filled)
    }
    count = filled
  }

  convenience init(_ bytes: UnsafeRawBufferPointer) {
    var rest = bytes
    self.init(limit: bytes.count) { target in
      let piece = min(target.count, rest.count)
      target.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest.prefix(piece)))
      rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(piece))
      return piece
    }
  }

  deinit {
    Secret.wipe(storage)
    storage.deallocate()
  }

  /// The bytes; the pointer is not to be kept.
  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    body(UnsafeRawBufferPointer(rebasing: storage[..<count]))
  }

  /// As GnuTLS takes it; the datum is not to be kept.
  func withDatum<Result>(_ body: (inout gnutls_datum_t) -> Result) -> Result {
    var datum = gnutls_datum_t(
      data: storage.baseAddress?.assumingMemoryBound(to: UInt8.self), size: UInt32(clamping: count))
    return body(&datum)
  }

  /// Overwrites in a way that the compiler does not leave out.
  static func wipe(_ bytes: UnsafeMutableRawBufferPointer) {
    if let base = bytes.baseAddress { gnutls_memset(base, 0, bytes.count) }
  }

  /// The content of a regular file of at most 1 MiB; opens without waiting, so that a FIFO in its place can't hang us.
  /// `isGuarded`: nobody else may have been able to read or change it.
  static func reading(_ file: TLSFile, _ path: String, isGuarded: Bool = false) throws(TLSError) -> Secret {
    let number = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard number >= 0 else {
      let code = errno
      throw .file(
        file, path: path, code == ENOENT || code == ENOTDIR ? .missing : .unreadable(String(cString: strerror(code))))
    }
    defer { close(number) }
    var status = stat()
    guard fstat(number, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      throw .file(file, path: path, .unreadable("not a regular file"))
    }
    if isGuarded, let problem = TLSFile.Problem.ofSecret(owner: status.st_uid, mode: status.st_mode) {
      throw .file(file, path: path, problem)
    }
    let limit = 1 << 20
    guard status.st_size <= limit else { throw .file(file, path: path, .tooLarge) }
    let expected = min(limit, Int(status.st_size) + 4096)
    let secret = try Secret(limit: expected) { buffer throws(TLSError) in
      while true {
        let count = read(number, buffer.baseAddress, buffer.count)
        if count >= 0 { return count }
        if errno != EINTR { throw .file(file, path: path, .unreadable(String(cString: strerror(errno)))) }
      }
    }
    // Half a file may look like a whole one.
    guard secret.count <= expected else {
      throw .file(file, path: path, expected == limit ? .tooLarge : .unreadable("it grew while it was read"))
    }
    return secret
  }
}

extension TLSFile.Problem {
  /// Why a file of that owner and with those permissions is no place for a secret; `nil` where it is one.
  package static func ofSecret(owner: UInt32, mode: UInt32) -> TLSFile.Problem? {
    guard owner == 0 || owner == geteuid() else { return .foreign(owner: owner) }
    return mode & 0o077 == 0 ? nil : .exposed(toEverybody: mode & 0o007 != 0)
  }
}
