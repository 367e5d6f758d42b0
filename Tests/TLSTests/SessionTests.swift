import AttachmentModel
import CGnuTLS
import CertificateLab
import Glibc
import Testing

@testable import TLS

/// The client of most tests: trusts the lab's authority and wants `storage1`.
func makeClient(
  _ server: TLSRequirements.Server = .named("storage1"), authorities: CertificateLab.Identity? = nil,
  identity: CertificateLab.Identity? = nil, priorities: String? = nil, socket: Int32? = nil, isForKernel: Bool = false
) throws -> TLSSession {
  let credentials = try TLSCredentials.load(
    .certificates(
      authorities: (authorities ?? CertificateLab.authority.get()).certificate, certificate: identity?.certificate,
      key: identity?.key))
  return try TLSSession(
    credentials, server: server, priorities: priorities, socket: socket, isForKernel: isForKernel)
}

func makeServer(
  _ identity: CertificateLab.Identity? = nil, priorities: String = "NORMAL", ticketKey: [UInt8]? = nil,
  socket: Int32? = nil
) throws -> TestServer {
  try TestServer(
    .certificate(identity ?? CertificateLab.server.get(), clientAuthority: nil), priorities: priorities,
    ticketKey: ticketKey, socket: socket)
}

@Suite("TLS sessions, back to back", .requiresCertificates)
struct SessionTests {
  @Test("both sides read what the other has written", arguments: ["NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.2"])
  func talk(priorities: String) throws {
    let client = try makeClient()
    let server = try makeServer(priorities: priorities)
    #expect(client.summary == nil)
    try shakeHands(client, server.session)
    #expect(client.summary?.hasPrefix(priorities == "NORMAL" ? "TLS 1.3, AES-256-GCM" : "TLS 1.2, ") == true)
    let question = (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
    #expect(try client.sendBytes(question) == .count(question.count))
    #expect(client.wantsToWrite)
    carry(client, to: server.session)
    #expect(!client.wantsToWrite)
    #expect(try server.session.receiveBytes() == question)
    #expect(try server.session.sendBytes([1, 2, 3]) == .count(3))
    carry(server.session, to: client)
    #expect(client.hasBufferedInput)
    #expect(try client.receiveBytes() == [1, 2, 3])
    #expect(!client.hasBufferedInput)
    #expect(try client.receiveBytes() == [])
  }

  @Test("what is decrypted and not yet read is said to be there")
  func buffered() throws {
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    _ = try server.session.sendBytes([1, 2, 3, 4])
    carry(server.session, to: client)
    #expect(try client.receiveBytes(1) == [1])
    #expect(client.hasBufferedInput)
    #expect(try client.receiveBytes(2) == [2, 3])
    #expect(client.hasBufferedInput)
    #expect(try client.receiveBytes(10) == [4])
    #expect(!client.hasBufferedInput)
  }

  @Test("a peer that takes nothing stops the sender, and nothing that was taken is lost")
  func backPressure() throws {
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    let piece = (0..<40_000).map { UInt8(truncatingIfNeeded: $0) }
    var sent: [UInt8] = []
    while case .count(let count) = try client.sendBytes(piece) { sent += piece[..<count] }
    #expect(sent.count > 200_000 && sent.count <= TLSTransport.capacity)
    #expect(try client.sendBytes(piece) == .wouldBlock)
    var received: [UInt8] = []
    while client.wantsToWrite {
      carry(client, to: server.session)
      received += try server.session.receiveBytes() ?? []
    }
    #expect(received == sent)
    #expect(try client.sendBytes(piece) == .count(piece.count))
  }

  @Test("keys that have served long enough are updated in both directions, and a server's update is followed")
  func keyUpdate() throws {
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    func talk() throws {
      for number in 0..<4 as Range<UInt8> {
        #expect(try client.sendBytes([number, 1]) == .count(2))
        carry(client, to: server.session)
        #expect(try server.session.receiveBytes() == [number, 1])
        #expect(try server.session.sendBytes([number, 2]) == .count(2))
        carry(server.session, to: client)
        #expect(try client.receiveBytes() == [number, 2])
      }
    }
    let first = try keys(of: client)
    client.recordsLeft = 2
    try talk()
    let second = try keys(of: client)
    #expect(first[0] != second[0] && first[1] != second[1])
    #expect(client.recordsLeft == TLSSession.recordsOfKey - 2)
    try check(gnutls_session_key_update(server.session.session, UInt32(GNUTLS_KU_PEER)))
    carry(server.session, to: client)
    try talk()
    let third = try keys(of: client)
    #expect(second[0] != third[0] && second[1] != third[1])
  }

  /// Of both directions.
  private func keys(of client: TLSSession) throws -> [[UInt8]] {
    try [true, false].map { isReceiving in
      try RecordKeys(client.session, isReceiving: isReceiving).info.withBytes { Array($0) }
    }
  }

  @Test("TLS 1.2 has no such update, and goes on")
  func noKeyUpdate() throws {
    let client = try makeClient()
    let server = try makeServer(priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.2")
    try shakeHands(client, server.session)
    client.recordsLeft = 1
    for _ in 0..<2 { #expect(try client.sendBytes([1]) == .count(1)) }
    carry(client, to: server.session)
    #expect(try server.session.receiveBytes() == [1, 1])
  }

  @Test("memory of buffers through which nothing has passed is given back, and they work on")
  func trimmed() throws {
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    for number in 0..<2 as Range<UInt8> {
      _ = try client.sendBytes([number])
      #expect(client.trimMemory())
      #expect(client.trimMemory(), "bytes wait in it")
      carry(client, to: server.session)
      while client.trimMemory() {}
      #expect(try server.session.receiveBytes() == [number])
    }
  }

  @Test("the end is one, with a goodbye and without")
  func ends() throws {
    for hasGoodbye in [true, false] {
      let client = try makeClient()
      let server = try makeServer()
      try shakeHands(client, server.session)
      _ = try server.session.sendBytes([7])
      if hasGoodbye { server.session.close() }
      carry(server.session, to: client)
      client.feedEnd()
      #expect(try client.receiveBytes() == [7])
      #expect(client.hasBufferedInput)
      #expect(try client.receiveBytes() == nil)
      #expect(try client.receiveBytes() == nil)
      #expect(try client.sendBytes([1]) == .end)
    }
  }

  @Test("the client's goodbye arrives")
  func goodbye() throws {
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    client.close()
    carry(client, to: server.session)
    #expect(try server.session.receiveBytes() == nil)
  }

  @Test("after our goodbye what the peer still sends is received, until its own")
  func halfClosed() throws {
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    client.close()
    carry(client, to: server.session)
    _ = try server.session.sendBytes([1, 2, 3])
    carry(server.session, to: client)
    #expect(client.hasBufferedInput)
    #expect(try client.receiveBytes() == [1, 2, 3])
    #expect(try client.receiveBytes() == [])
    #expect(try client.sendBytes([1]) == .end)
    #expect(!client.wantsToWrite)
    server.session.close()
    carry(server.session, to: client)
    #expect(try client.receiveBytes() == nil)
  }

  @Test("a record that was changed on its way ends the session, after what came whole before it")
  func tampered() throws {
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    _ = try server.session.sendBytes([1, 2, 3])
    carry(server.session, to: client)
    _ = try server.session.sendBytes([4, 5, 6])
    carry(server.session, to: client) { $0[$0.count - 1] ^= 1 }
    #expect(try client.receiveBytes() == [1, 2, 3])
    #expect(client.hasBufferedInput)
    #expect(throws: TLSError.notTLS) { try client.receiveBytes() }
    #expect(throws: TLSError.notTLS) { try client.receiveBytes() }
    #expect(throws: TLSError.notTLS) { try client.sendBytes([1]) }
  }

  @Test(
    "bytes that are not TLS are refused during the handshake",
    arguments: ["HTTP/1.1 400 Bad Request\r\n\r\n", "NBDMAGIC", "\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}\u{0}"])
  func notTLS(text: String) throws {
    let client = try makeClient()
    _ = try client.handshake()
    _ = Array(text.utf8).withUnsafeBytes { client.feed($0) }
    client.feedEnd()
    let error = #expect(throws: TLSError.self) { try client.handshake() }
    #expect(error == .notTLS)
    #expect(error?.nature == .final)
  }

  @Test("a close during the handshake may be another thing next time")
  func closedEarly() throws {
    let client = try makeClient()
    #expect(try client.handshake() == .wantsToWrite)
    client.feedEnd()
    let error = #expect(throws: TLSError.self) { try client.handshake() }
    #expect(error == .closed && error?.nature == .passing)
  }

  @Test("no byte can be sent or read before the handshake is done")
  func early() throws {
    let client = try makeClient()
    #expect(throws: TLSError.outOfStep) { try client.sendBytes([1]) }
    #expect(throws: TLSError.outOfStep) { try client.receiveBytes() }
  }

  @Test("over sockets, nothing blocks, and what is read ahead is not lost")
  func sockets() throws {
    var pair: [Int32] = [0, 0]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    try #require(socketpair(AF_UNIX, type, 0, &pair) == 0)
    defer { for number in pair { close(number) } }
    let client = try makeClient(socket: pair[0])
    let server = try makeServer(socket: pair[1])
    while try client.handshake() != .done { _ = try server.session.handshake() }
    while try server.session.handshake() != .done {}
    let data = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    var received: [UInt8] = []
    var rest = data[...]
    while received.count < data.count {
      if !rest.isEmpty, case .count(let count) = try server.session.sendBytes(Array(rest.prefix(200_000))) {
        rest = rest.dropFirst(count)
      }
      try server.session.flush()
      received += try client.receiveBytes(131_072) ?? []
    }
    #expect(received == data)
    #expect(try client.receiveBytes() == [])
    shutdown(pair[1], Int32(SHUT_RDWR))
    #expect(try client.receiveBytes() == nil)
  }

  @Test("a connection that is reset is a system error")
  func reset() throws {
    var pair: [Int32] = [0, 0]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    try #require(socketpair(AF_UNIX, type, 0, &pair) == 0)
    #expect(write(pair[0], "x", 1) == 1)
    close(pair[1])
    defer { close(pair[0]) }
    let client = try makeClient(socket: pair[0])
    let error = #expect(throws: TLSError.self) { try client.handshake() }
    #expect(error == .system("recv", ECONNRESET) && error?.nature == .passing)
  }

  @Test("tickets for a later session, which we don't take up, are in nobody's way")
  func tickets() throws {
    let client = try makeClient()
    let server = try makeServer(ticketKey: TestServer.newTicketKey())
    try shakeHands(client, server.session)
    // They come with the first data.
    _ = try server.session.sendBytes([1])
    carry(server.session, to: client)
    #expect(try client.receiveBytes() == [1])
  }
}
