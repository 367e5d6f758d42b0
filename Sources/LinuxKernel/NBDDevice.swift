import CLinuxNBD
import Glibc

/// The ioctls of an open `/dev/nbdX` (drivers/block/nbd.c, __nbd_ioctl), each thrown with its own name.
///
/// NBD_SET_SOCK makes the calling *thread* the only one that may set the device up; the others may be called from
/// any thread.
package struct NBDDevice: Sendable {
  /// Open for reading and writing; owned by the caller.
  package let number: Int32

  package init(_ number: Int32) { self.number = number }

  /// EBUSY: another task sets the device up, or it is in use. EINVAL: not a socket that the driver takes, or a
  /// device that netlink set up.
  package func setSocket(_ socket: Int32) throws(SystemCallError) {
    try call("NBD_SET_SOCK", K_NBD_SET_SOCK, UInt(bitPattern: Int(socket)))
  }

  package func setBlockSize(_ bytes: Int) throws(SystemCallError) {
    try call("NBD_SET_BLKSIZE", K_NBD_SET_BLKSIZE, UInt(bitPattern: bytes))
  }

  /// In blocks of the size set before.
  package func setSize(blocks: UInt64) throws(SystemCallError) {
    try call("NBD_SET_SIZE_BLOCKS", K_NBD_SET_SIZE_BLOCKS, UInt(blocks))
  }

  /// 0 switches the timer off; it must be said each time, because the index keeps its last user's.
  package func setTimeout(seconds: UInt32) throws(SystemCallError) {
    try call("NBD_SET_TIMEOUT", K_NBD_SET_TIMEOUT, UInt(seconds))
  }

  /// The transmission flags as the server sent them. ENOTTY from kernels before 3.9, which have none.
  package func setFlags(_ flags: UInt16) throws(SystemCallError) {
    try call("NBD_SET_FLAGS", K_NBD_SET_FLAGS, UInt(flags))
  }

  package func setReadOnly(_ isReadOnly: Bool) throws(SystemCallError) {
    var value: Int32 = isReadOnly ? 1 : 0
    let result = withUnsafeMutablePointer(to: &value) { k_ioctl(number, K_BLKROSET, UInt(bitPattern: $0)) }
    guard result >= 0 else { throw SystemCallError("ioctl BLKROSET", Int32(-result)) }
  }

  /// Blocks until the device has lost its socket, whatever the reason: 0, or an errno that differs by kernel
  /// version and says little.
  package func doIt() -> Int32 { Int32(-k_ioctl(number, K_NBD_DO_IT, 0)) }

  /// Sends NBD_CMD_DISC, so that NBD_DO_IT returns once the server has closed. May block on a full socket.
  package func disconnect() throws(SystemCallError) { try call("NBD_DISCONNECT", K_NBD_DISCONNECT, 0) }

  package func clearQueue() throws(SystemCallError) { try call("NBD_CLEAR_QUE", K_NBD_CLEAR_QUE, 0) }

  /// Forgets the socket. Only ever for a device that this process has set up: it would take another's away.
  package func clearSocket() throws(SystemCallError) { try call("NBD_CLEAR_SOCK", K_NBD_CLEAR_SOCK, 0) }

  /// In bytes; 0 while the device is not attached.
  package func size() throws(SystemCallError) -> UInt64 {
    var size: UInt64 = 0
    let result = withUnsafeMutablePointer(to: &size) { k_ioctl(number, K_BLKGETSIZE64, UInt(bitPattern: $0)) }
    guard result >= 0 else { throw SystemCallError("ioctl BLKGETSIZE64", Int32(-result)) }
    return size
  }

  /// Writes out what the kernel holds of the device's own page cache. Blocks for as long as the server takes.
  package func flush() throws(SystemCallError) {
    let number = number
    _ = try retryingOnEINTR("fsync") { fsync(number) }
  }

  private func call(_ name: String, _ request: UInt, _ argument: UInt) throws(SystemCallError) {
    let result = k_ioctl(number, request, argument)
    guard result >= 0 else { throw SystemCallError("ioctl \(name)", Int32(-result)) }
  }
}

/// Whether the first 4 KiB of a block device can be read past the kernel's cache; `true` also where it can't be opened,
/// which says nothing. Blocks for as long as the device does.
package func canReadFirstBlock(of path: String) -> Bool {
  guard let number = try? FileDescriptor.open(path, O_RDONLY | K_O_DIRECT).release() else { return true }
  defer { close(number) }
  let size = 4096
  let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: size)
  defer { block.deallocate() }
  return pread(number, block, size, 0) > 0
}
