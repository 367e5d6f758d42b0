import LinuxKernel

/// What can go wrong with the control socket, on either side of it.
package enum ControlError: Error, Equatable, Sendable {
  /// A system call on the socket at `path` failed.
  case system(call: String, path: String, code: Int32)
  /// Longer than the kernel's `sun_path` takes.
  case pathTooLong(path: String)
  /// Something that is no socket is in the way.
  case notASocket(path: String)
  /// Another daemon answers there.
  case alreadyServed(path: String)

  /// No daemon answers there.
  case notRunning(path: String)
  /// The caller is neither root nor in the socket's group.
  case permissionDenied(path: String)
  /// The daemon did not answer in time.
  case timedOut
  /// The daemon closed the connection without an answer.
  case closed
  /// The answer is longer than any that makes sense.
  case replyTooLong
  /// The answer is not what the interface says.
  case malformedReply
  /// The caller may ask, but not change.
  case mayNotChange
  /// The daemon was asked to do something, or of something, and could not.
  case action(ActionError)
  /// This daemon does not know how.
  case notImplemented(method: String)
  /// The daemon answered with an error that is none of the above.
  case refused(error: String)
}

extension ControlError: CustomStringConvertible {
  /// One line, no full stop at the end.
  package var description: String {
    switch self {
    case .system(let call, let path, let code): "\(printable(path)): \(call): \(SystemCallError.text(of: code))"
    case .pathTooLong(let path): "\(printable(path)): too long for a socket's path"
    case .notASocket(let path): "\(printable(path)): exists and is no socket"
    case .alreadyServed(let path): "\(printable(path)): another daemon answers there"
    case .notRunning(let path): "nbdattachd is not running (nobody answers on \(printable(path)))"
    case .permissionDenied(let path): "\(printable(path)): permission denied"
    case .timedOut: "nbdattachd did not answer in time"
    case .closed: "nbdattachd closed the connection without an answer"
    case .replyTooLong: "the answer of nbdattachd is too long"
    case .malformedReply: "the answer of nbdattachd makes no sense"
    case .mayNotChange: "permission denied"
    case .action(let error): error.description
    case .notImplemented(let method): "this nbdattachd does not know how to (\(printable(method)))"
    case .refused(let error): "nbdattachd refused: \(printable(error))"
    }
  }

  /// What the caller can do about it, one line.
  package var hint: String? {
    switch self {
    case .notRunning: "start it with: systemctl start nbdattachd"
    case .permissionDenied: "ask as root, or as a member of the group nbdattach"
    case .mayNotChange: "only root may change what is attached"
    case .action(let error): error.hint
    case .timedOut, .closed: "journalctl -u nbdattachd may say why"
    case .malformedReply, .notImplemented, .refused:
      "daemon and command may be of different versions: systemctl restart nbdattachd"
    case .system, .pathTooLong, .notASocket, .alreadyServed, .replyTooLong: nil
    }
  }
}
