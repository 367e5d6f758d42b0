import CLinuxNBD
import Glibc
import Synchronization

/// Name look-ups: getaddrinfo(3) blocks, so each runs on a thread of a pool, one for each name.
///
/// Concurrency model: `waiters` is shared by the callers and the look-up threads, under its mutex; completions are
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

  /// So many look-ups may block at the same time; the rest wait their turn.
  private let pool = BlockingThreadPool(name: "resolver", threads: 16)

  private struct Name: Hashable {
    let host: String
    let port: UInt16
  }

  private let waiters = Mutex<[Name: [Completion]]>([:])

  /// Finds the addresses of `host` in the order of RFC 6724; `completion` is called exactly once, late when the
  /// name server is: the caller keeps its own deadline.
  package func resolve(host: String, port: UInt16, completion: @escaping Completion) {
    if let addresses = try? Resolver.lookUp(host: host, port: port, flags: AI_NUMERICHOST) {
      return completion(.success(addresses))
    }
    let name = Name(host: host, port: port)
    let isFirst = waiters.withLock { waiters in
      waiters[name, default: []].append(completion)
      return waiters[name]?.count == 1
    }
    guard isFirst else { return }
    pool.submit {
      let result = Result { () throws(LookupError) in
        try Resolver.lookUp(host: host, port: port, flags: Resolver.isLoopback(host) ? 0 : AI_ADDRCONFIG)
      }
      self.finish(name, result)
    } refusal: { error in
      self.finish(name, .failure(LookupError(host: host, code: EAI_SYSTEM, description: "\(error)")))
    }
  }

  private func finish(_ name: Name, _ result: Result<[SocketAddress], LookupError>) {
    let completions = waiters.withLock { $0.removeValue(forKey: name) ?? [] }
    for completion in completions { completion(result) }
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
