import Glibc

/// A system call that failed: its name and errno, so that no message lacks either.
package struct SystemCallError: Error, Equatable, Sendable, CustomStringConvertible {
  /// As in its manual page, such as `connect` or `ioctl NBD_SET_SOCK`.
  package let call: String
  package let code: Int32

  package init(_ call: String, _ code: Int32) {
    self.call = call
    self.code = code
  }

  /// Such as `connect: Connection refused`.
  package var description: String { "\(call): \(SystemCallError.text(of: code))" }

  /// The C library's sentence for an errno, such as `Connection refused`.
  package static func text(of code: Int32) -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    _ = strerror_r(code, &buffer, buffer.count)
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}

/// The last error of this thread, which must be read before anything else is called.
func lastError(_ call: String) -> SystemCallError { SystemCallError(call, errno) }

/// Repeats a call that a signal interrupted; throws when it returns -1 for another reason.
func retryingOnEINTR<Result: SignedInteger>(_ call: String, _ body: () -> Result) throws(SystemCallError) -> Result {
  while true {
    let result = body()
    if result != -1 { return result }
    if errno != EINTR { throw lastError(call) }
  }
}
