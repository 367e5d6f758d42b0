import Dispatch
import Glibc
import LinuxKernel

/// Happy eyeballs (RFC 8305): addresses are tried one after the other, a new one each `stagger` or as soon as one has
/// failed, and the first that connects wins.
///
/// Concurrency model: an object of its scope's queue.
final class ConnectionRace {
  /// RFC 8305, "Connection Attempt Delay".
  static let stagger: Duration = .milliseconds(250)
  /// A Unix socket whose backlog is full tells nobody when there is room.
  static let backlogPause: Duration = .milliseconds(20)

  enum Outcome: Sendable {
    case connected(OpenFile, SocketAddress)
    case failed([SystemCallError])
  }

  private let scope: AttemptScope
  private var waiting: ArraySlice<SocketAddress>
  private var running: [Int: () -> Void] = [:]
  private var started = 0
  private var errors: [SystemCallError] = []
  private var timer: (any DispatchSourceTimer)?
  private var finish: ((Outcome?) -> Void)?

  private init(_ addresses: [SocketAddress], scope: AttemptScope) {
    waiting = addresses[...]
    self.scope = scope
  }

  static nonisolated(nonsending) func run(
    _ addresses: [SocketAddress], scope: AttemptScope
  ) async throws(AttemptScope.End) -> Outcome {
    let race = ConnectionRace(interleaved(addresses), scope: scope)
    return try await scope.wait { finish in
      race.finish = finish
      race.startNext()
      return { race.end(nil) }
    }
  }

  /// RFC 8305, section 4: families take turns, beginning with the one that the resolver put first.
  static func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
    guard let first = addresses.first else { return [] }
    var preferred = addresses.filter { $0.family == first.family }[...]
    var others = addresses.filter { $0.family != first.family }[...]
    var order: [SocketAddress] = []
    while !preferred.isEmpty || !others.isEmpty {
      if let address = preferred.popFirst() { order.append(address) }
      if let address = others.popFirst() { order.append(address) }
    }
    return order
  }

  private func startNext() {
    timer?.cancel()
    timer = nil
    guard finish != nil else { return }
    guard let address = waiting.popFirst() else {
      if running.isEmpty { end(.failed(errors)) }
      return
    }
    started += 1
    do {
      let socket = OpenFile(try Socket.make(for: address))
      if address.isIP { try Socket.tune(socket.number) }
      try connect(socket, to: address, id: started)
    } catch {
      errors.append(error)
      return startNext()
    }
    if finish != nil, !waiting.isEmpty { timer = after(ConnectionRace.stagger) { [weak self] in self?.startNext() } }
  }

  private func connect(_ socket: OpenFile, to address: SocketAddress, id: Int) throws(SystemCallError) {
    switch try Socket.connect(socket.number, to: address) {
    case .connected:
      end(.connected(socket, address))
    case .inProgress:
      // The closure keeps the socket open while it is waited for.
      let wait = DescriptorWait(for: .writable, of: socket.number, on: scope.queue) { [self] in
        running[id] = nil
        let code = Socket.takeError(socket.number)
        if code == 0 { return end(.connected(socket, address)) }
        fail(SystemCallError("connect to \(address)", code))
      }
      running[id] = { wait.cancel() }
    case .backlogFull:
      let retry = after(ConnectionRace.backlogPause) { [weak self] in
        guard let self, running.removeValue(forKey: id) != nil else { return }
        do throws(SystemCallError) { try connect(socket, to: address, id: id) } catch { fail(error) }
      }
      running[id] = { retry.cancel() }
    }
  }

  private func fail(_ error: SystemCallError) {
    errors.append(error)
    startNext()
  }

  private func end(_ outcome: Outcome?) {
    guard let finish else { return }
    self.finish = nil
    timer?.cancel()
    timer = nil
    let cancellations = running.values
    running = [:]
    for cancel in cancellations { cancel() }
    finish(outcome)
  }

  private func after(_ pause: Duration, _ body: @escaping () -> Void) -> any DispatchSourceTimer {
    let timer = DispatchSource.makeTimerSource(queue: scope.queue)
    timer.setEventHandler {
      timer.cancel()
      body()
    }
    timer.schedule(deadline: .now() + pause.inSeconds)
    timer.activate()
    return timer
  }
}
