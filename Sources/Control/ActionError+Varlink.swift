/// How an `ActionError` travels: `org.nbdattach.varlink` has each.
extension ActionError {
  var varlinkName: String {
    switch self {
    case .noSuchAttachment: "org.nbdattach.NoSuchAttachment"
    case .inUse: "org.nbdattach.InUse"
    case .failed: "org.nbdattach.Failed"
    case .timedOut: "org.nbdattach.TimedOut"
    case .configurationRefused: "org.nbdattach.ConfigurationRefused"
    case .stopping: "org.nbdattach.Stopping"
    }
  }

  var varlinkParameters: [String: VarlinkValue] {
    switch self {
    case .noSuchAttachment(let name): ["name": .string(name)]
    case .inUse(let name, let uses): ["name": .string(name), "uses": .strings(uses)]
    case .failed(let name, let message, let hint):
      ["name": .string(name), "message": .string(message)].merging(optional("hint", hint)) { $1 }
    case .timedOut(let name, let message, let hint):
      ["name": .string(name)].merging(optional("message", message)) { $1 }.merging(optional("hint", hint)) { $1 }
    case .configurationRefused(let errors): ["errors": .strings(errors)]
    case .stopping: [:]
    }
  }

  /// `nil`: no error of ours, or not with the parameters that it has.
  init?(varlinkName: String, parameters: [String: VarlinkValue]) {
    let name = parameters["name"]?.string
    let hint = parameters["hint"]?.string
    switch (varlinkName, name) {
    case ("org.nbdattach.NoSuchAttachment", let name?): self = .noSuchAttachment(name: name)
    case ("org.nbdattach.InUse", let name?): self = .inUse(name: name, uses: parameters["uses"]?.strings ?? [])
    case ("org.nbdattach.Failed", let name?):
      guard let message = parameters["message"]?.string else { return nil }
      self = .failed(name: name, message: message, hint: hint)
    case ("org.nbdattach.TimedOut", let name?):
      self = .timedOut(name: name, message: parameters["message"]?.string, hint: hint)
    case ("org.nbdattach.ConfigurationRefused", _):
      self = .configurationRefused(errors: parameters["errors"]?.strings ?? [])
    case ("org.nbdattach.Stopping", _): self = .stopping
    default: return nil
    }
  }
}

private func optional(_ key: String, _ value: String?) -> [String: VarlinkValue] {
  value.map { [key: .string($0)] } ?? [:]
}
