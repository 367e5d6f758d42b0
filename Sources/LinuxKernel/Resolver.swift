import CLinuxNBD
import Glibc
import Synchronization

/// Name look-ups: getaddrinfo(3) blocks, so each runs on a thread of its own, few at once, one for each name.
///
/// Concurrency model: `state` is shared by the callers and the look-up threads, under its mutex; completions are
/// called on whichever thread ends the look-up, outside the mutex.
package final class Resolver: Sendable {
  package typealias Completion = @Sendable (Result<[SocketAddress], LookupError>) -> Void

  /// What getaddrinfo(3) said.
  package struct LookupError: Error, Equatable, Sendable, CustomStringConvertible {
    package let host: String
    /// An EAI_ code.
    package let code: Int32
    package let description: String

    /// The name does not exist, as opposed to a look-up that could not be done now.
    package var isUnknownHost: Bool { code == EAI_NONAME || code == LookupError.noData }

    /// EAI_NODATA, which glibc still returns and its header hides.
    private static let noData: Int32 = -5
  }

  package static let shared = Resolver()

  /// Look-ups that may block at the same time; the rest wait their turn.
  private static let threads = 16

  private struct Name: Hashable {
    let host: String
    let port: UInt16
  }

  private struct State {
    var waiters: [Name: [Completion]] = [:]
    var queue: [Name] = []
    var running = 0
  }

  private let state = Mutex(State())

  /// Finds the addresses of `host` in the order of RFC 6724; `completion` is called exactly once, late when the
  /// name server is: the caller keeps its own deadline.
  package func resolve(host: String, port: UInt16, completion: @escaping Completion) {
    if let addresses = try? Resolver.lookUp(host: host, port: port, flags: AI_NUMERICHOST) {
      return completion(.success(addresses))
    }
    let name = Name(host: host, port: port)
    let mustStart = state.withLock { state in
      if state.waiters[name] != nil {
        state.waiters[name]?.append(completion)
        return false
      }
      state.waiters[name] = [completion]
      state.queue.append(name)
      guard state.running < Resolver.threads else { return false }
      state.running += 1
      return true
    }
    guard mustStart else { return }
    do { try BlockingThread.start("resolver") { self.work() } } catch {
      let orphans = state.withLock { state in
        state.running -= 1
        guard state.running == 0 else { return [Completion]() }
        defer { state.queue = [] }
        return state.queue.flatMap { state.waiters.removeValue(forKey: $0) ?? [] }
      }
      for completion in orphans {
        completion(.failure(LookupError(host: host, code: EAI_SYSTEM, description: "\(error)")))
      }
    }
  }

  private func work() {
    while true {
      let next = state.withLock { state -> Name? in
        guard !state.queue.isEmpty else {
          state.running -= 1
          return nil
        }
        return state.queue.removeFirst()
      }
      guard let name = next else { return }
      let result = Result { () throws(LookupError) in
        try Resolver.lookUp(host: name.host, port: name.port, flags: Resolver.isLoopback(name.host) ? 0 : AI_ADDRCONFIG)
      }
      let waiters = state.withLock { $0.waiters.removeValue(forKey: name) ?? [] }
      for completion in waiters { completion(result) }
    }
  }

  /// AI_ADDRCONFIG overlooks loopback interfaces: with it a host that has an IPv4 network and no IPv6 one would not
  /// find a server on ::1.
  private static func isLoopback(_ host: String) -> Bool {
    let name = host.lowercased()
    return name == "localhost" || name.hasSuffix(".localhost")
  }

  private static func lookUp(host: String, port: UInt16, flags: Int32) throws(LookupError) -> [SocketAddress] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    hints.ai_flags = flags | AI_NUMERICSERV
    var list: UnsafeMutablePointer<addrinfo>?
    let code = getaddrinfo(host, String(port), &hints, &list)
    guard code == 0 else {
      let text = code == EAI_SYSTEM ? SystemCallError.text(of: errno) : String(cString: gai_strerror(code))
      throw LookupError(host: host, code: code, description: text)
    }
    defer { freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var entry = list
    while let current = entry {
      if let address = current.pointee.ai_addr {
        let found = SocketAddress(address, length: current.pointee.ai_addrlen)
        if !addresses.contains(found) { addresses.append(found) }
      }
      entry = current.pointee.ai_next
    }
    return addresses
  }
}
