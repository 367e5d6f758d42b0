/// Changes, which the daemon makes for root alone. Each blocks until the daemon has done it.
extension ControlClient {
  /// Longer than any timeout, and short enough to be added to a time.
  private static let forever: Duration = .seconds(100 * 365 * 86400)
  /// What the daemon needs beyond the time that it was given.
  private static let margin: Duration = .seconds(10)
  /// A stop may take the daemon's `stop-timeout`, of up to an hour.
  private static let longest: Duration = .seconds(3600) + margin

  /// With `wait`, returns when it is attached; `timeout` `nil` waits for ever.
  package func start(_ name: String, wait: Bool, timeout: Duration?) throws(ControlError) {
    struct Parameters: Encodable {
      var name: String
      var wait: Bool
      var timeoutMilliseconds: Int64?
    }
    let patience = wait ? timeout.map { $0 + ControlClient.margin } ?? ControlClient.forever : nil
    try change(
      .start, Parameters(name: name, wait: wait, timeoutMilliseconds: timeout?.inMilliseconds), patience: patience)
  }

  package func stop(_ name: String, force: Bool = false) throws(ControlError) {
    struct Parameters: Encodable {
      var name: String
      var force: Bool
    }
    try change(.stop, Parameters(name: name, force: force), patience: ControlClient.longest)
  }

  /// Returns when it is about to be attached again.
  package func restart(_ name: String) throws(ControlError) {
    try change(.restart, Name(name: name), patience: ControlClient.longest)
  }

  /// `nil`: all of them.
  package func retry(_ name: String? = nil) throws(ControlError) { try change(.retry, Name(name: name)) }

  /// Returns when all its links are new ones.
  package func reconnect(_ name: String) throws(ControlError) {
    try change(.reconnect, Name(name: name), patience: .seconds(300))
  }

  package func refresh(_ name: String) throws(ControlError) {
    try change(.refresh, Name(name: name), patience: .seconds(60))
  }

  /// Returns when its links lead to that server.
  package func move(_ name: String, to uri: String) throws(ControlError) {
    try change(.move, ["name": name, "uri": uri], patience: .seconds(300))
  }

  package func acknowledge(_ name: String) throws(ControlError) { try change(.acknowledge, Name(name: name)) }

  /// Returns when the configuration is in force.
  package func reload() throws(ControlError) { try change(.reload, Name(name: nil), patience: .seconds(300)) }

  package func endHolding(after duration: Duration) throws(ControlError) {
    try change(.endHolding, ["afterMilliseconds": duration.inMilliseconds])
  }

  private struct Name: Encodable {
    var name: String?
  }

  private func change(
    _ method: ControlMethod, _ parameters: some Encodable, patience: Duration? = nil
  ) throws(ControlError) {
    let _: [String: VarlinkValue] = try call(method, parameters, patience: patience)
  }
}

extension Duration {
  /// Rounded down, and no more than fits.
  fileprivate var inMilliseconds: Int64 {
    let (seconds, attoseconds) = components
    let (whole, isTooLong) = seconds.multipliedReportingOverflow(by: 1000)
    if isTooLong { return .max }
    let (sum, overflows) = whole.addingReportingOverflow(attoseconds / 1_000_000_000_000_000)
    return overflows ? .max : sum
  }
}
