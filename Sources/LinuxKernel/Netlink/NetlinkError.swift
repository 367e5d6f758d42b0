import Glibc

/// Why a netlink call brought nothing.
package enum NetlinkError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The kernel refused. `call` is a system call or the command, such as `NBD_CMD_CONNECT`; `code` an errno; `text` the
  /// kernel's own explanation (extended acknowledgement), where it gave one.
  case system(call: String, code: Int32, text: String?)
  /// The kernel has no such interface now, and why.
  case unavailable(String)
  /// No answer by the deadline. `hasBegun`: it hangs in the kernel, its thread is left to it, and it may yet take
  /// effect; else it waited for a thread and never will.
  case timedOut(call: String, hasBegun: Bool)
  /// What the kernel sent is not what its headers describe.
  case malformed(String)

  init(_ error: SystemCallError) { self = .system(call: error.call, code: error.code, text: nil) }

  /// The kernel's errno, where it gave one.
  package var code: Int32? {
    guard case .system(_, let code, _) = self else { return nil }
    return code
  }

  /// What the operator can do.
  package var hint: String? {
    switch self {
    case .unavailable: "modprobe nbd"
    case .timedOut: "another program's call hangs: look for processes in state D"
    case .system, .malformed: nil
    }
  }

  package var description: String {
    switch self {
    case .system(let call, let code, let text):
      "\(SystemCallError(call, code))" + (text.map { " (\($0))" } ?? "")
    case .unavailable(let reason): reason
    case .timedOut(let call, true): "\(call): the kernel does not answer; something else holds up generic netlink"
    case .timedOut(let call, false): "\(call): not begun, because earlier calls still hang in the kernel"
    case .malformed(let what): "the kernel's netlink answer makes no sense: \(what)"
    }
  }
}
