/// What of a lifecycle's state is reported.
extension Lifecycle.State {
  package var reported: AttachmentReport.State {
    switch self {
    case .stopped: .stopped
    case .connecting: .connecting
    case .attached: .attached
    // Links that are renewed are not lost.
    case .degraded(_, .trying(let attempt)): attempt.previous == nil ? .attached : .degraded
    case .degraded(_, .pausing): .degraded
    // I/O is held, and no try will help until something changes.
    case .reconnecting(.trying(let attempt)): attempt.previous?.advice == .giveUp ? .failed : .reconnecting
    case .reconnecting(.pausing(let pause)): pause.failure.advice == .giveUp ? .failed : .reconnecting
    case .waiting: .waiting
    case .detaching(.awaitingHandOver(_, let shown)): shown
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
    case .attached, .degraded, .detaching(.awaitingHandOver(_, .attached)), .detaching(.awaitingHandOver(_, .degraded)):
      true
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

  /// Of the attempt, binding, pause or departure under way; 0 when stopped.
  package var currentGeneration: Generation {
    switch state {
    case .stopped: 0
    case .connecting(let attempt), .reconnecting(.trying(let attempt)): attempt.generation
    case .attached(let binding), .degraded(let binding, _): binding.generation
    case .waiting(let pause), .failed(let pause), .reconnecting(.pausing(let pause)): pause.generation
    case .detaching(.awaitingAttempt(let generation, _)), .detaching(.awaitingRelease(let generation, _)),
      .detaching(.awaitingHandOver(let generation, _)):
      generation
    }
  }
}
