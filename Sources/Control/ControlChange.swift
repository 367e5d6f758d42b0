/// A call that changes something, with its parameters checked.
enum ControlChange: Equatable, Sendable {
  case start(name: String, wait: Bool, timeout: Duration?)
  case stop(name: String, force: Bool)
  case restart(name: String)
  case retry(name: String?)
  case reconnect(name: String)
  case refresh(name: String)
  case move(name: String, uri: String)
  case acknowledge(name: String)
  case reload
  case endHolding(after: Duration)

  /// `nil`: the method changes nothing.
  init?(_ method: ControlMethod, _ call: VarlinkCall) throws(VarlinkError) {
    switch method {
    case .getInfo, .getInterfaceDescription, .status:
      return nil
    case .start:
      try call.expect(["name", "wait", "timeoutMilliseconds"])
      self = .start(
        name: try call.required("name", call.string("name")), wait: try call.required("wait", call.bool("wait")),
        timeout: try call.milliseconds("timeoutMilliseconds"))
    case .stop:
      try call.expect(["name", "force"])
      self = .stop(name: try call.required("name", call.string("name")), force: try call.bool("force") ?? false)
    case .restart:
      try call.expect(["name"])
      self = .restart(name: try call.required("name", call.string("name")))
    case .retry:
      try call.expect(["name"])
      self = .retry(name: try call.string("name"))
    case .reconnect:
      try call.expect(["name"])
      self = .reconnect(name: try call.required("name", call.string("name")))
    case .refresh:
      try call.expect(["name"])
      self = .refresh(name: try call.required("name", call.string("name")))
    case .move:
      try call.expect(["name", "uri"])
      self = .move(
        name: try call.required("name", call.string("name")), uri: try call.required("uri", call.string("uri")))
    case .acknowledge:
      try call.expect(["name"])
      self = .acknowledge(name: try call.required("name", call.string("name")))
    case .reload:
      try call.expect([])
      self = .reload
    case .endHolding:
      try call.expect(["afterMilliseconds"])
      self = .endHolding(after: try call.required("afterMilliseconds", call.milliseconds("afterMilliseconds")))
    }
  }
}

extension ControlActions {
  /// Whether there is such an action; throws what it throws.
  func perform(_ change: ControlChange) async throws(ActionError) -> Bool {
    switch change {
    case .start(let name, let wait, let timeout):
      guard let start else { return false }
      try await start(name, wait, timeout)
    case .stop(let name, let force):
      guard let stop else { return false }
      try await stop(name, force)
    case .restart(let name):
      guard let restart else { return false }
      try await restart(name)
    case .retry(let name):
      guard let retry else { return false }
      try await retry(name)
    case .reconnect(let name):
      guard let reconnect else { return false }
      try await reconnect(name)
    case .refresh(let name):
      guard let refresh else { return false }
      try await refresh(name)
    case .move(let name, let uri):
      guard let move else { return false }
      try await move(name, uri)
    case .acknowledge(let name):
      guard let acknowledge else { return false }
      try await acknowledge(name)
    case .reload:
      guard let reload else { return false }
      try await reload()
    case .endHolding(let after):
      guard let endHolding else { return false }
      try await endHolding(after)
    }
    return true
  }
}
