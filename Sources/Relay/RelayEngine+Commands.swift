import LinuxKernel
import RelayModel

/// What the relay does about its servers besides I/O.
enum ServerChange {
  case none
  /// Takes no request until all are answered and flushed, to be told to the caller. Can become: `drained`, `none`.
  case draining(until: UInt64, CheckedContinuation<Bool, Never>)
  /// Takes no request. Can become: `none`.
  case drained
  /// As `draining`; then the links take the place of those there are. Can become: `none`.
  case replacing([RelayLink], until: UInt64, CheckedContinuation<Result<[LinkID], RelayError>, Never>)

  /// When it must be done.
  var deadline: UInt64 {
    switch self {
    case .none, .drained: .max
    case .draining(let deadline, _), .replacing(_, let deadline, _): deadline
    }
  }

  var isUnderWay: Bool {
    switch self {
    case .none, .drained: false
    case .draining, .replacing: true
    }
  }
}

/// What others ask for, by the mailbox.
extension RelayEngine {
  mutating func obey() {
    for command in mailbox.take() {
      switch command {
      case .kernelEnd(let file): openKernel(file)
      case .add(let added, let caller): caller.resume(returning: join(added))
      case .supersede(let silent, let added, let caller):
        let identifiers = join(added)
        beginLeaving(silent)
        caller.resume(returning: identifiers)
      case .replaceAll(let added, let limit, let caller): beginReplacing(added, limit, caller)
      case .drain(let limit, let caller): beginDraining(limit, caller)
      case .resume: resume()
      case .giveUp(let caller):
        ledger.giveUp(now: now)
        if let caller { whoGaveUp.append(caller) }
      case .endKernelSide:
        if let file = kernel.file { Socket.shutDown(file.number) }
      case .change(let settings): use(settings)
      case .end(let heir, let caller):
        isEnding = true
        self.heir = self.heir ?? heir
        if let caller { whoEnded.append(caller) }
      }
    }
  }

  private mutating func openKernel(_ file: OpenFile) {
    if kernel.isOpen {
      kernel.close(segments)
      ledger.kernelReset()
      settleDebts()
    }
    kernel.open(file)
    // The last poll(2) spoke of the one before.
    polled.forgetKernel()
  }

  private mutating func beginDraining(_ limit: Duration, _ caller: CheckedContinuation<Bool, Never>) {
    guard !change.isUnderWay else { return caller.resume(returning: false) }
    ledger.drain()
    change = .draining(until: now + limit.clampedNanoseconds, caller)
  }

  private mutating func beginReplacing(
    _ added: [RelayLink], _ limit: Duration, _ caller: CheckedContinuation<Result<[LinkID], RelayError>, Never>
  ) {
    guard case .none = change else { return caller.resume(returning: .failure(.busy)) }
    ledger.drain()
    change = .replacing(added, until: now + limit.clampedNanoseconds, caller)
  }

  private mutating func resume() {
    guard case .drained = change else { return }
    ledger.undrain()
    change = .none
  }

  /// Takes the next step of a change when what it waits for has come, or its time is over.
  mutating func finishChange() {
    switch change {
    case .none, .drained: break
    case .draining(let deadline, let caller):
      if ledger.isDrained && !kernel.hasOutput {
        change = .drained
        // Before the caller knows of it the counters do.
        publish()
        caller.resume(returning: true)
      } else if now >= deadline {
        change = .none
        ledger.undrain()
        caller.resume(returning: false)
      }
    case .replacing(let added, let deadline, let caller):
      let isReady = ledger.isDrained && !kernel.hasOutput
      if isReady || !links.contains(where: { $0.pointee.standing == .up }) {
        change = .none
        // First the old ones go, so that the ledger knows no server whose cache could be another; the log is empty.
        dismiss()
        let identifiers = join(added)
        ledger.undrain()
        publish()
        caller.resume(returning: .success(identifiers))
      } else if now >= deadline {
        abandonChange(.notInTime)
        ledger.undrain()
      }
    }
  }

  /// The caller of a change that will not be finished is told so; new links are closed.
  mutating func abandonChange(_ error: RelayError) {
    switch change {
    case .none, .drained: break
    case .draining(_, let caller): caller.resume(returning: false)
    case .replacing(_, _, let caller): caller.resume(returning: .failure(error))
    }
    change = .none
  }
}
