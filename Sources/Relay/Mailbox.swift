import LinuxKernel
import RelayModel
import Synchronization

/// How others reach the relay's thread: a list of commands, and a bell that wakes its poll(2).
///
/// The bell is a timer, so that one descriptor says that there is something to do and that it is time for something
/// (`Alarm`): poll(2) has one less to look at for each request.
///
/// Concurrency model: filled by anyone and emptied by the relay's thread, under the mutex. A command that comes after
/// the thread has closed it is answered at once, so that nobody waits for a thread that is gone.
final class Mailbox: Sendable {
  enum Command: Sendable {
    case kernelEnd(OpenFile)
    case add([RelayLink], CheckedContinuation<[LinkID], Never>)
    case replaceAll([RelayLink], Duration, CheckedContinuation<Result<[LinkID], RelayError>, Never>)
    case supersede(LinkID, [RelayLink], CheckedContinuation<[LinkID], Never>)
    case giveUp(CheckedContinuation<Void, Never>?)
    case drain(Duration, CheckedContinuation<Bool, Never>)
    case resume
    case endKernelSide
    case change(RelaySettings)
    /// With the name for what is left to the next process, where there will be one.
    case end(String?, CheckedContinuation<Remainder, Never>?)

    /// The answer when there is no thread any more.
    func refuse() {
      switch self {
      case .add(_, let caller), .supersede(_, _, let caller): caller.resume(returning: [])
      case .replaceAll(_, _, let caller): caller.resume(returning: .failure(.ended))
      case .drain(_, let caller): caller.resume(returning: false)
      case .end(_, let caller): caller?.resume(returning: .nothing)
      case .giveUp(let caller): caller?.resume()
      case .kernelEnd, .resume, .endKernelSide, .change: break
      }
    }
  }

  private struct State {
    var commands: [Command] = []
    var isClosed = false
  }

  private let state = Mutex(State())
  /// What poll(2) waits on.
  let bell: OpenFile

  /// Throws what timerfd_create(2) answers.
  init() throws(SystemCallError) { bell = OpenFile(try TimerDescriptor.make()) }

  /// After the bell was set as an alarm, which silences it: rings when commands have come.
  func ringAgain() {
    if state.withLock({ !$0.commands.isEmpty }) { ring() }
  }

  private func ring() { TimerDescriptor.set(bell.number, to: 1) }

  func post(_ command: Command) {
    let isClosed = state.withLock { state in
      if !state.isClosed { state.commands.append(command) }
      return state.isClosed
    }
    if isClosed { command.refuse() } else { ring() }
  }

  /// All that has come, in order. The bell is silenced before.
  func take() -> [Command] {
    state.withLock { state in
      defer { state.commands = [] }
      return state.commands
    }
  }

  /// Refuses all that comes from now on; what had come.
  func close() -> [Command] {
    state.withLock { state in
      state.isClosed = true
      defer { state.commands = [] }
      return state.commands
    }
  }
}
