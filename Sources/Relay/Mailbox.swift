import CLinuxNBD
import Glibc
import LinuxKernel
import RelayModel
import Synchronization

/// How others reach the relay's thread: a list of commands, and an eventfd that wakes its poll(2).
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
  private let event: OpenFile

  init() throws(SystemCallError) { event = OpenFile(try EventDescriptor.make()) }

  /// What poll(2) waits on: readable while there are commands.
  var descriptor: Int32 { event.number }

  func post(_ command: Command) {
    let isClosed = state.withLock { state in
      if !state.isClosed { state.commands.append(command) }
      return state.isClosed
    }
    if isClosed { command.refuse() } else { EventDescriptor.signal(event.number) }
  }

  /// All that has come, in order.
  func take() -> [Command] {
    EventDescriptor.clear(event.number)
    return state.withLock { state in
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

/// eventfd(2), as a bell.
private enum EventDescriptor {
  static func make() throws(SystemCallError) -> FileDescriptor {
    let number = eventfd(0, Int32(EFD_CLOEXEC) | Int32(EFD_NONBLOCK))
    guard number >= 0 else { throw SystemCallError("eventfd", errno) }
    return FileDescriptor(owning: number)
  }

  static func signal(_ number: Int32) {
    var one: UInt64 = 1
    while write(number, &one, 8) < 0, errno == EINTR {}
  }

  static func clear(_ number: Int32) {
    var count: UInt64 = 0
    while read(number, &count, 8) < 0, errno == EINTR {}
  }
}
