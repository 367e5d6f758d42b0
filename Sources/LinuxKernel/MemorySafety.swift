import CLinuxNBD
import Glibc

/// For a process that stands between the kernel's page cache and a disk: what it waits for must not wait for it.
package enum MemorySafety {
  /// From now on allocations of this thread, and of those that it starts, never wait for pages to be written out, and its
  /// writes are not throttled (prctl(2), PR_SET_IO_FLUSHER). EPERM without CAP_SYS_RESOURCE, EINVAL before Linux 5.6.
  package static func becomeIOFlusher() throws(SystemCallError) {
    let code = k_set_io_flusher()
    guard code == 0 else { throw SystemCallError("prctl PR_SET_IO_FLUSHER", code) }
  }

  /// From now on no page that this process has touched is taken from it (mlockall(2) with MCL_ONFAULT). EPERM or ENOMEM
  /// where RLIMIT_MEMLOCK is too low.
  package static func lockTouchedMemory() throws(SystemCallError) {
    guard mlockall(K_LOCK_TOUCHED) == 0 else { throw SystemCallError("mlockall", errno) }
  }
}
