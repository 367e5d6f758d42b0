/// What of a lifecycle's state is reported.
extension Lifecycle.State {
  package var reported: AttachmentReport.State {
    switch self {
    case .stopped: .stopped
    case .connecting: .connecting
    case .attached: .attached
    case .degraded: .degraded
    case .reconnecting: .reconnecting
    case .waiting: .waiting
    case .detaching: .detaching
    case .failed: .failed
    }
  }

  /// Tries since the last success, one under way included; `nil` where nothing is tried.
  package var attempts: Int? {
    switch self {
    case .connecting(let attempt), .degraded(_, .trying(let attempt)), .reconnecting(.trying(let attempt)):
      attempt.number
    case .waiting(let pause), .failed(let pause), .degraded(_, .pausing(let pause)), .reconnecting(.pausing(let pause)):
      pause.attempts
    case .stopped, .attached, .detaching: nil
    }
  }

  package var hasLinks: Bool {
    switch self {
    case .attached, .degraded: true
    case .stopped, .connecting, .reconnecting, .waiting, .detaching, .failed: false
    }
  }

  package var isAttempting: Bool {
    switch self {
    case .connecting, .degraded(_, .trying), .reconnecting(.trying), .detaching(.awaitingAttempt): true
    case .stopped, .attached, .degraded, .reconnecting, .waiting, .detaching, .failed: false
    }
  }

  package var isPausing: Bool {
    switch self {
    case .waiting, .failed, .degraded(_, .pausing), .reconnecting(.pausing): true
    case .stopped, .connecting, .attached, .degraded, .reconnecting, .detaching: false
    }
  }
}

extension Lifecycle {
  /// The device whose links that attempt made is in use now.
  package func isBound(_ generation: Generation) -> Bool {
    switch state {
    case .attached(let binding), .degraded(let binding, _): binding.generation == generation
    case .stopped, .connecting, .reconnecting, .waiting, .detaching, .failed: false
    }
  }
}
