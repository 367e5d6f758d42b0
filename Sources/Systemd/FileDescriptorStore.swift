import CSystemd
import Glibc

/// Descriptors that the service manager keeps while this process is not there, and hands to the next one.
///
/// The manager keeps at most `FileDescriptorStoreMax=` of them, and lets all go when the service is stopped, not when it
/// is restarted or has crashed (sd_notify(3), `FDSTORE=1`). What it refuses it closes and logs; nobody is told.
extension ServiceManager {
  /// In bytes of UTF-8. The manager itself takes 255, but hands over all names in one variable, and with more than
  /// 128 KiB in it (the kernel's MAX_ARG_STRLEN) the service could never be started again: 4096 names of 30 bytes fit.
  package static let storeNameLimit = 30

  /// Stores duplicates of `fds` under a name, which several may share; the caller's own stay the caller's.
  ///
  /// - Parameters:
  ///   - name: printable ASCII without `:`, at most `storeNameLimit` bytes.
  ///   - poll: whether the manager lets a descriptor go once it has hung up or failed. A socket whose peer has gone is
  ///     still worth having, hence not.
  package func store(_ fds: [Int32], name: String, poll: Bool = false) throws(SystemdError) {
    try ServiceManager.check(storeName: name)
    guard isPresent else { return }
    let text = "FDSTORE=1\nFDNAME=\(name)" + (poll ? "" : "\nFDPOLL=0")
    var rest = fds[...]
    while !rest.isEmpty {
      // One datagram carries no more descriptors than that (unix(7), SCM_MAX_FD).
      let part = Array(rest.prefix(253))
      rest = rest.dropFirst(part.count)
      let result = sd_pid_notify_with_fds(0, 0, text, part, UInt32(part.count))
      if result < 0 { throw .notify(code: -result) }
    }
  }

  /// Makes the manager close every descriptor that it keeps under this name; none is no error.
  package func removeFromStore(name: String) throws(SystemdError) {
    try ServiceManager.check(storeName: name)
    guard isPresent else { return }
    let result = sd_notify(0, "FDSTOREREMOVE=1\nFDNAME=\(name)")
    if result < 0 { throw .notify(code: -result) }
  }

  /// Waits until the manager has taken in everything that it was told before. Blocks.
  ///
  /// Needed where what follows must not overtake a notification: a process that ends at once, say.
  package func synchronize(within timeout: Duration) throws(SystemdError) {
    guard isPresent else { return }
    let result = sd_notify_barrier(0, UInt64(max(0, Notification.microseconds(timeout))))
    if result < 0 { throw .notify(code: -result) }
  }

  private static func check(storeName name: String) throws(SystemdError) {
    let isSound = name.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: ":") }
    guard isSound, !name.isEmpty, name.utf8.count <= storeNameLimit else { throw .storeName(name) }
  }
}

/// The descriptors that this process was started with.
package enum ListenDescriptors {
  /// Takes them over, with close-on-exec set; each is the caller's to close. A second call returns none.
  ///
  /// Changes the environment, so it belongs before the first thread.
  package static func take() throws(SystemdError) -> [(name: String, fd: Int32)] {
    var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    let count = sd_listen_fds_with_names(1, &names)
    if count < 0 { throw .listen(code: -count) }
    guard count > 0 else { return [] }
    defer {
      for index in 0..<Int(count) { free(names?[index]) }
      free(names)
    }
    return (0..<count).map { index in
      (names?[Int(index)].map { String(cString: $0) } ?? "", SD_LISTEN_FDS_START + index)
    }
  }
}
