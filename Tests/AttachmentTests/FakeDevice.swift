import AttachmentModel
import Dispatch
import Glibc
import LinuxKernel
import NBDProtocol
import Synchronization

@testable import Attachment

/// A kernel device without a kernel: it keeps the link, ends when the server closes it, and takes leave as the driver
/// does.
///
/// Concurrency model: `state` is shared by the worker, the test and the watch on the socket, under its mutex.
final class FakeDevice: KernelDevice {
  /// What a call of `bind` does.
  enum Binding: Sendable {
    case succeeds
    /// The link breaks before `bind` has returned.
    case endsAtOnce
    case fails(Failure)
  }

  private struct State {
    var link: Link?
    var onEnd: (@Sendable (DeviceEnd) -> Void)?
    var watch: (any DispatchSourceRead)?
    var parameters: [DeviceParameters] = []
    var script: [Binding]
    var releases = 0
    var index: Int?
  }

  let number: Int
  private let state: Mutex<State>

  /// `script`: what the first calls of `bind` do; the rest succeed.
  init(number: Int = 0, script: [Binding] = []) {
    self.number = number
    state = Mutex(State(script: script))
  }

  var index: Int? { state.withLock { $0.index } }
  var holdsIO: Bool { false }
  var link: Link? { state.withLock { $0.link } }
  /// Of each call of `bind`.
  var parameters: [DeviceParameters] { state.withLock { $0.parameters } }
  var releases: Int { state.withLock { $0.releases } }

  func bind(
    _ link: Link, _ parameters: DeviceParameters, onEnd: @escaping @Sendable (DeviceEnd) -> Void
  ) async throws(Failure) {
    let binding = state.withLock { state -> Binding in
      state.parameters.append(parameters)
      return state.script.isEmpty ? .succeeds : state.script.removeFirst()
    }
    switch binding {
    case .fails(let failure): throw failure
    case .endsAtOnce:
      state.withLock { $0.index = number }
      onEnd(.lost(errnoCode: nil))
    case .succeeds:
      state.withLock { state in
        state.index = number
        state.link = link
        state.onEnd = onEnd
        state.watch = watch(link)
      }
    }
  }

  func release(timeout: Duration) async throws(Failure) {
    state.withLock { $0.releases += 1 }
    guard let (link, onEnd) = unbind() else { return }
    let farewell = Request(.disconnect, cookie: 0).bytes
    _ = send(link.socket.number, farewell, farewell.count, Int32(MSG_NOSIGNAL))
    Socket.shutDown(link.socket.number)
    onEnd(.released)
  }

  /// The link breaks, for no reason that anybody knows.
  func lose(errnoCode: Int32? = nil) {
    guard let (link, onEnd) = unbind() else { return }
    Socket.shutDown(link.socket.number)
    onEnd(.lost(errnoCode: errnoCode))
  }

  private func unbind() -> (Link, @Sendable (DeviceEnd) -> Void)? {
    state.withLock { state in
      guard let link = state.link, let onEnd = state.onEnd else { return nil }
      state.watch?.cancel()
      (state.link, state.onEnd, state.watch) = (nil, nil, nil)
      return (link, onEnd)
    }
  }

  /// Loses the link when the server closes it; what a test reads from it is left alone.
  private func watch(_ link: Link) -> any DispatchSourceRead {
    let source = DispatchSource.makeReadSource(fileDescriptor: link.socket.number, queue: .global())
    source.setEventHandler { [weak self] in
      var byte: UInt8 = 0
      let count = recv(link.socket.number, &byte, 1, Int32(MSG_PEEK))
      guard count == 0 || (count < 0 && errno != EAGAIN) else { return }
      source.cancel()
      self?.lose()
    }
    // Keeps the socket open until Dispatch has let go of it.
    source.setCancelHandler { withExtendedLifetime(link) {} }
    source.activate()
    return source
  }
}
