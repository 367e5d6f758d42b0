/// A call of libsystemd that failed; `code` is the errno.
package enum SystemdError: Error, Equatable, Sendable {
  /// The service manager's socket did not take a notification.
  case notify(code: Int32)
  /// The journal did not take an entry.
  case journal(code: Int32)
  /// The descriptors that this process was started with are not what the environment says.
  case listen(code: Int32)
  /// No name for a stored descriptor.
  case storeName(String)
}
