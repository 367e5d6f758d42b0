import CLinuxNBD
import Glibc
import LinuxKernel

/// The socketpair between the kernel and the relay.
enum KernelSocket {
  /// Ours is nonblocking. The kernel's is not; it takes no notice of that.
  static func makePair() throws(SystemCallError) -> (ours: OpenFile, theirs: OpenFile) {
    var numbers: [Int32] = [-1, -1]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    guard socketpair(AF_UNIX, type, 0, &numbers) == 0 else { throw SystemCallError("socketpair", errno) }
    let ours = OpenFile(FileDescriptor(owning: numbers[0]))
    let theirs = OpenFile(FileDescriptor(owning: numbers[1]))
    guard fcntl(ours.number, F_SETFL, O_NONBLOCK) == 0 else { throw SystemCallError("fcntl O_NONBLOCK", errno) }
    return (ours, theirs)
  }
}
