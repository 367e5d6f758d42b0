import CLinuxNBD
import Glibc

/// Threads for calls that block, which no Dispatch queue and no task may do.
package enum BlockingThread {
  /// Runs `body` on a new detached thread with all signals blocked: a handled signal that lands on a thread in
  /// NBD_DO_IT ends the link even with SA_RESTART (drivers/block/nbd.c, nbd_start_device_ioctl).
  ///
  /// `name` is cut to 15 bytes. Throws what pthread_create answers (EAGAIN).
  package static func start(_ name: String, _ body: @escaping @Sendable () -> Void) throws(SystemCallError) {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
    pthread_attr_setstacksize(&attributes, 128 << 10)

    // A thread inherits the mask, so it never runs with a signal open.
    var all = sigset_t()
    var before = sigset_t()
    sigfillset(&all)
    pthread_sigmask(SIG_BLOCK, &all, &before)
    defer { pthread_sigmask(SIG_SETMASK, &before, nil) }

    let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
    var thread = pthread_t()
    let code = pthread_create(
      &thread, &attributes,
      { @Sendable argument in
        guard let argument else { return nil }
        let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
        _ = pthread_setname_np(pthread_self(), String(start.name.prefix(15)))
        start.body()
        return nil
      }, start.toOpaque())
    guard code == 0 else {
      start.release()
      throw SystemCallError("pthread_create", code)
    }
  }

  /// The kernel's number of the calling thread.
  package static var currentID: Int32 { k_gettid() }
}

private final class ThreadStart: Sendable {
  let name: String
  let body: @Sendable () -> Void

  init(name: String, body: @escaping @Sendable () -> Void) {
    self.name = name
    self.body = body
  }
}
