/// What the daemon does when root asks for it over the control socket.
///
/// The client of an action that has not ended may go away: its task is cancelled then, which ends waiting, and undoes
/// nothing. An action without a closure is answered with `MethodNotImplemented`.
package struct ControlActions: Sendable {
  /// Makes the attachment run. With `wait` it returns when it is attached, or throws: `failed` as soon as it can't
  /// succeed without a change, `timedOut` after `timeout`; `nil` waits for ever.
  package var start: (@Sendable (_ name: String, _ wait: Bool, _ timeout: Duration?) async throws(ActionError) -> Void)?
  /// Detaches, and returns when the device is gone; the attachment stays stopped until `start`. Where it is in use it
  /// throws `inUse` unless `force`.
  package var stop: (@Sendable (_ name: String, _ force: Bool) async throws(ActionError) -> Void)?
  /// Stops as `stop` without force, then starts, and returns without waiting for the new device.
  package var restart: (@Sendable (_ name: String) async throws(ActionError) -> Void)?
  /// Makes what waits try now: the attachment of this name, or all.
  package var retry: (@Sendable (_ name: String?) async throws(ActionError) -> Void)?
  /// Makes new links in the place of all that it has, with the credentials that are there now, while its I/O goes on, and
  /// returns when they are up.
  package var reconnect: (@Sendable (_ name: String) async throws(ActionError) -> Void)?
  /// Looks at the export again, and grows the device with it.
  package var refresh: (@Sendable (_ name: String) async throws(ActionError) -> Void)?
  /// Moves it to the server of this URI while its I/O goes on, and returns when it is there. It stays there until other
  /// servers are declared.
  package var move: (@Sendable (_ name: String, _ uri: String) async throws(ActionError) -> Void)?
  /// The operator knows of the lost writes that the status shows.
  package var acknowledge: (@Sendable (_ name: String) async throws(ActionError) -> Void)?
  /// Reads the configuration again, and returns when it is in force, or throws `configurationRefused`.
  package var reload: (@Sendable () async throws(ActionError) -> Void)?
  /// From now until the daemon ends, no attachment holds I/O longer than this, counted from now or from the loss of
  /// its last link, whichever is later. Returns at once.
  package var endHolding: (@Sendable (_ after: Duration) async throws(ActionError) -> Void)?

  /// None; set those that there are.
  package init() {}
}

/// Why an action was not done.
package enum ActionError: Error, Equatable, Sendable {
  case noSuchAttachment(name: String)
  /// `uses` as `DeviceUse` describes them: `mounted on /srv/data`.
  case inUse(name: String, uses: [String])
  /// It can't be done before something changes.
  case failed(name: String, message: String, hint: String?)
  /// It has not come about in time; `message` says why, as far as is known.
  case timedOut(name: String, message: String?, hint: String?)
  /// The configuration has these errors, and the former one stays in force.
  case configurationRefused(errors: [String])
  /// The daemon is about to end.
  case stopping
}

extension ActionError: CustomStringConvertible {
  /// One line, no full stop at the end; what a client got from the daemon is escaped.
  package var description: String {
    switch self {
    case .noSuchAttachment(let name): "no attachment is called \"\(printable(name))\""
    case .inUse(let name, let uses):
      "\(printable(name)) is in use: \(uses.map(printable).joined(separator: ", "))"
    case .failed(let name, let message, _): "\(printable(name)): \(printable(message))"
    case .timedOut(let name, let message, _):
      "\(printable(name)) is not attached in time" + (message.map { ": " + printable($0) } ?? "")
    case .configurationRefused(let errors):
      "the configuration has errors (\(errors.count)), and the former one stays in force"
    case .stopping: "nbdattachd is stopping"
    }
  }

  /// What the caller can do about it, one line.
  package var hint: String? {
    switch self {
    case .noSuchAttachment: "nbdattach status shows all of them"
    case .inUse: "end that first; --force takes the device away nevertheless, and what uses it will see errors"
    case .failed(_, _, let hint), .timedOut(_, _, let hint): hint.map(printable)
    case .configurationRefused: "nbdattach check shows each with its line"
    case .stopping: nil
    }
  }
}
