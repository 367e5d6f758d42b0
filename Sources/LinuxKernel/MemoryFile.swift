import CLinuxNBD
import Glibc

/// A file in memory, memfd_create(2), that outlives the process that wrote it where another one keeps it open.
///
/// Once sealed its content can't be changed, nor can it grow; it can still be emptied, which gives its memory back and
/// is seen by all who have it open.
package struct MemoryFile: Sendable {
  package let file: OpenFile
  private static let wantedSeals = K_F_SEAL_WRITE | K_F_SEAL_GROW | K_F_SEAL_SEAL

  /// One of another process. Throws EINVAL where it is not sealed as `seal` does it, or where it can't be emptied, and
  /// what fcntl(2) answers for a file that is none in memory.
  package init(adopting file: OpenFile) throws(SystemCallError) {
    let seals = try retryingOnEINTR("fcntl F_GET_SEALS") { fcntl(file.number, K_F_GET_SEALS, 0) }
    let mode = try retryingOnEINTR("fcntl F_GETFL") { fcntl(file.number, F_GETFL, 0) }
    guard seals & MemoryFile.wantedSeals == MemoryFile.wantedSeals, seals & K_F_SEAL_SHRINK == 0,
      mode & O_ACCMODE == O_RDWR
    else { throw SystemCallError("fcntl F_GET_SEALS", EINVAL) }
    self.file = file
  }

  /// A new one, empty. `name` is seen in /proc alone. Throws what memfd_create(2) answers.
  package init(named name: String) throws(SystemCallError) {
    let flags = K_MFD_CLOEXEC | K_MFD_ALLOW_SEALING
    // A kernel with vm.memfd_noexec=2 wants the flag, and one before 6.3 does not know it.
    var number = memfd_create(name, flags | K_MFD_NOEXEC_SEAL)
    if number < 0, errno == EINVAL { number = memfd_create(name, flags) }
    guard number >= 0 else { throw lastError("memfd_create") }
    file = OpenFile(FileDescriptor(owning: number))
  }

  /// In bytes: what it says it has, and what there is of that in memory, which is less where it has holes.
  package func size() throws(SystemCallError) -> (length: Int, held: Int) {
    var status = stat()
    _ = try retryingOnEINTR("fstat") { fstat(file.number, &status) }
    return (Int(status.st_size), Int(status.st_blocks).multipliedReportingOverflow(by: 512).partialValue)
  }

  package func append(_ bytes: UnsafeRawBufferPointer) throws(SystemCallError) {
    var rest = bytes
    while let base = rest.baseAddress, !rest.isEmpty {
      let count = try retryingOnEINTR("write") { Glibc.write(file.number, base, rest.count) }
      rest = UnsafeRawBufferPointer(rebasing: rest[count...])
    }
  }

  /// Fills `buffer` from `offset` on. Throws ENODATA where the file ends before.
  package func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(SystemCallError) {
    var rest = buffer
    var offset = offset
    while let base = rest.baseAddress, !rest.isEmpty {
      let count = try retryingOnEINTR("pread") { pread(file.number, base, rest.count, off_t(offset)) }
      guard count > 0 else { throw SystemCallError("pread", ENODATA) }
      rest = UnsafeMutableRawBufferPointer(rebasing: rest[count...])
      offset += count
    }
  }

  /// From now on nobody changes what it holds.
  package func seal() throws(SystemCallError) {
    _ = try retryingOnEINTR("fcntl F_ADD_SEALS") { fcntl(file.number, K_F_ADD_SEALS, MemoryFile.wantedSeals) }
  }

  /// Forgets all that it holds, for everybody, at once.
  package func empty() throws(SystemCallError) {
    _ = try retryingOnEINTR("ftruncate") { ftruncate(file.number, 0) }
  }
}
