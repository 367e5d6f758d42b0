import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
import Testing

@testable import Attachment

@Suite("ways to a server")
struct ConnectorAddressTests {
  @Test("a TCP address in digits, IPv4 and IPv6", .requires(.nbdkit), arguments: ["127.0.0.1", "::1"])
  func tcp(host: String) async throws {
    let server = try await ServerProcess.nbdkit(onTCP: host, "memory", "1M")
    let client = Client()
    let link = try await client.link(server.uri())
    guard case .tcp(_, let port) = server.address else { throw ServerProcess.Unready(description: "not TCP") }
    let peer = host == "::1" ? "[::1] port \(port)" : "127.0.0.1 port \(port)"
    #expect(link.peer == peer)
    #expect(await client.steps == ["looking up \(host)", "connecting to \(peer)", "negotiating with \(peer)"])
  }

  @Test("a host name", .requires(.nbdkit))
  func hostName() async throws {
    let server = try await ServerProcess.nbdkit(onTCP: "127.0.0.1", "memory", "1M")
    guard case .tcp(_, let port) = server.address else { throw ServerProcess.Unready(description: "not TCP") }
    let uri = ServerURI(address: .tcp(host: "localhost", port: port))
    #expect(try await Client().link(uri).peer == "127.0.0.1 port \(port)")
  }

  @Test("a name in the abstract namespace")
  func abstract() async throws {
    let listener = try Listener(onUnix: "nbdattach-test-\(UInt64.random(in: 0 ... .max))", isAbstract: true)
    try listener.serveOnce { $0.send(.oldstyle(size: 4096)) }
    let link = try await Client().link(listener.uri())
    #expect(link.export.size == 4096)
    #expect(link.peer.hasPrefix("@nbdattach-test-"))
  }

  @Test("TCP links are tuned: no delay, and a peer that vanished is found out")
  func tuned() async throws {
    let listener = try Listener(onTCP: "127.0.0.1")
    try listener.serveOnce { $0.send(.oldstyle(size: 4096)) }
    let link = try await Client().link(listener.uri())
    #expect(option(link.socket, Int32(IPPROTO_TCP), TCP_NODELAY) == 1)
    #expect(option(link.socket, SOL_SOCKET, SO_KEEPALIVE) == 1)
    #expect(option(link.socket, Int32(IPPROTO_TCP), TCP_USER_TIMEOUT) == 30_000)
    #expect(fcntl(link.socket.number, F_GETFD) & FD_CLOEXEC != 0)
  }

  // MARK: What does not connect

  @Test("a port where nobody listens", arguments: ["127.0.0.1", "::1"])
  func refused(host: String) async throws {
    let port = try freePort(host)
    let problem = try await failure { () throws(Failure) in
      try await Client().link(ServerURI(address: .tcp(host: host, port: port)))
    }
    #expect(problem.phase == .connecting)
    #expect(problem.errnoCode == ECONNREFUSED)
    #expect(problem.advice == .retry)
    #expect(problem.message.contains("port \(port): Connection refused"))
    #expect(problem.hint?.contains("running") == true)
  }

  @Test("a socket that is not there (yet)")
  func missingSocket() async throws {
    let problem = try await failure { () throws(Failure) in
      try await Client().link(ServerURI(address: .unix(path: "/nonexistent/nbd.sock")))
    }
    #expect(problem.phase == .connecting)
    #expect(problem.errnoCode == ENOENT)
    #expect(problem.advice == .retry)
    #expect(problem.message == "connect to /nonexistent/nbd.sock: No such file or directory")
  }

  @Test("a path that no socket can have")
  func longPath() async throws {
    let problem = try await failure { () throws(Failure) in
      try await Client().link(ServerURI(address: .unix(path: "/" + String(repeating: "x", count: 200))))
    }
    #expect(problem.errnoCode == ENAMETOOLONG)
    #expect(problem.advice == .giveUp)
  }

  @Test("a host that does not exist")
  func unknownHost() async throws {
    let problem = try await failure { () throws(Failure) in
      try await Client().link(ServerURI(address: .tcp(host: "nothing.invalid", port: 10_809)))
    }
    #expect(problem.phase == .resolving)
    #expect(problem.message.contains("nothing.invalid"))
    #expect(problem.advice == .retry)
  }

  @Test("a vsock address that nobody has: an error or the deadline, never a crash")
  func vsock() async throws {
    // CID 1 is this machine, where its kernel has the loopback transport.
    let problem = try await failure { () throws(Failure) in
      try await Client().link(
        ServerURI(address: .vsock(cid: 1, port: .random(in: 50_000...60_000))), timeout: .milliseconds(500))
    }
    #expect(problem.phase == .connecting)
    #expect(problem.message.contains("vsock") || problem.message.contains("socket"))
    #expect(problem.advice == .retry)
  }

  @Test("a server on vsock", .requires(.nbdkit), .requiresVsockLoopback)
  func vsockServer() async throws {
    let port = UInt32.random(in: 50_000...60_000)
    let server = try await ServerProcess.nbdkit(onVsock: port, "pattern", "1M")
    let client = Client()
    let link = try await client.link(server.uri())
    #expect(link.peer == "vsock 1:\(port)")
    #expect(try await client.read(link, offset: 512, length: 512) == pattern(offset: 512, count: 512))
  }

  // MARK: Happy eyeballs

  @Test("families take turns, beginning with the first")
  func interleaving() async throws {
    let addresses = try await lookUp(["::1", "::2", "::3", "127.0.0.1", "127.0.0.2"], port: 1)
    #expect(
      ConnectionRace.interleaved(addresses).map(\.description)
        == ["[::1] port 1", "127.0.0.1 port 1", "[::2] port 1", "127.0.0.2 port 1", "[::3] port 1"])
    #expect(ConnectionRace.interleaved([]) == [])
  }

  @Test("of a host's two addresses it is enough that one answers", arguments: ["127.0.0.1", "::1"])
  func oneOfTwo(host: String) async throws {
    let listener = try Listener(onTCP: host)
    for order in [["127.0.0.1", "::1"], ["::1", "127.0.0.1"]] {
      let outcome = try await Client().race(try await lookUp(order, port: listener.port))
      guard case .connected(_, let peer) = outcome else { throw ServerProcess.Unready(description: "\(outcome)") }
      #expect(peer.description.contains(host))
    }
  }

  @Test("an address that swallows everything does not hold up the next one")
  func blackHole() async throws {
    // A full backlog drops what comes, without a word.
    let hole = try Listener(onTCP: "127.0.0.1", backlog: 0)
    let holeAddress = try await lookUp(["127.0.0.1"], port: hole.port)
    var waiting: [FileDescriptor.Box] = []
    for _ in 0..<8 {
      let socket = try Socket.make(for: holeAddress[0])
      _ = try Socket.connect(socket.number, to: holeAddress[0])
      waiting.append(FileDescriptor.Box(socket))
    }
    let listener = try Listener(onTCP: "::1")
    let outcome = try await Client().race(holeAddress + lookUp(["::1"], port: listener.port))
    guard case .connected(_, let peer) = outcome else { throw ServerProcess.Unready(description: "\(outcome)") }
    #expect(peer.description == "[::1] port \(listener.port)")
    #expect(waiting.count == 8)
  }

  @Test("where no address answers, each says why")
  func allFail() async throws {
    let port = try freePort("127.0.0.1")
    let outcome = try await Client().race(try await lookUp(["127.0.0.1", "::1"], port: port))
    guard case .failed(let errors) = outcome else { throw ServerProcess.Unready(description: "\(outcome)") }
    #expect(errors.map(\.code) == [ECONNREFUSED, ECONNREFUSED])
    guard case .failed(let none) = try await Client().race([]) else { throw ServerProcess.Unready(description: "") }
    #expect(none == [])
  }

  @Test("a Unix socket with a full backlog is tried again until there is room")
  func fullBacklog() async throws {
    let directory = try TemporaryDirectory()
    let listener = try Listener(onUnix: "\(directory.path)/socket", backlog: 0)
    let address = try SocketAddress.unix(path: "\(directory.path)/socket", isAbstract: false)
    var waiting: [FileDescriptor.Box] = []
    while true {
      let socket = try Socket.make(for: address)
      guard try Socket.connect(socket.number, to: address) == .connected else { break }
      waiting.append(FileDescriptor.Box(socket))
      try #require(waiting.count < 1000)
    }
    async let link = Client().link(listener.uri())
    for _ in 0...waiting.count { try listener.serveOnce { $0.send(.oldstyle(size: 4096)) } }
    #expect(try await link.export.size == 4096)
  }

  private func lookUp(_ hosts: [String], port: UInt16) async throws -> [SocketAddress] {
    var addresses: [SocketAddress] = []
    for host in hosts {
      addresses += try await withCheckedContinuation { continuation in
        Resolver.shared.resolve(host: host, port: port) { continuation.resume(returning: $0) }
      }.get()
    }
    return addresses
  }

  private func option(_ file: OpenFile, _ level: Int32, _ name: Int32) -> Int32 {
    var value: Int32 = -1
    var length = socklen_t(MemoryLayout<Int32>.size)
    getsockopt(file.number, level, name, &value, &length)
    return value
  }
}

extension FileDescriptor {
  /// Makes descriptors fit for an array.
  fileprivate final class Box {
    private let descriptor: FileDescriptor
    init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }
  }
}

extension [UInt8] {
  /// All that an oldstyle server says before transmission.
  static func oldstyle(size: UInt64) -> [UInt8] {
    var bytes = Array("NBDMAGIC".utf8) + [0x00, 0x00, 0x42, 0x02, 0x81, 0x86, 0x12, 0x53]
    for shift in stride(from: 56, through: 0, by: -8) { bytes.append(UInt8(truncatingIfNeeded: size >> UInt64(shift))) }
    return bytes + [0, 0, 0, 1] + [UInt8](repeating: 0, count: 124)
  }
}
