import AttachmentModel
import CGnuTLS
import CertificateLab
import Dispatch
import Glibc
import LinuxKernel
import NBDProtocol
import TLS
import Testing

@testable import Attachment

@Suite("a server whose TLS records hold no data", .requiresCertificates)
struct TicketFloodTests {
  @Test("what else waits for the queue has its turn between them")
  func turns() async throws {
    var ends: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0)
    let client = OpenFile(FileDescriptor(owning: ends[0]))
    let server = Peer(FileDescriptor(owning: ends[1]))
    _ = fcntl(client.number, F_SETFL, O_NONBLOCK)
    let identity = try CertificateLab.server.get()
    let isSent = Promise<Bool>()
    try BlockingThread.start("server") {
      let tickets = TicketServer(server, identity)
      isSent.fulfil(
        tickets.shakeHands() && tickets.send(tickets: 0, data: [1]) && tickets.send(tickets: 200, data: [7]))
    }
    let reader = Reader(client)
    try await reader.secure()
    // Behind the tickets that end the handshake.
    #expect(try await reader.readByte().0 == [1])
    // All is there before any of it is read.
    #expect(try await isSent.get("the tickets are sent"))
    let (bytes, hadTurn) = try await reader.readByte()
    #expect(bytes == [7])
    #expect(hadTurn)
  }

  @Test("one that goes on and on is given up")
  func flood() async throws {
    let listener = try Listener(onTCP: "127.0.0.1")
    let identity = try CertificateLab.server.get()
    try listener.serveOnce { peer in
      peer.send(Array("NBDMAGICIHAVEOPT".utf8) + [0, 3])
      _ = peer.receive(4 + 16)
      peer.send([0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0])
      let tickets = TicketServer(peer, identity)
      if tickets.shakeHands() { _ = tickets.send(tickets: 30_000, data: []) }
      _ = peer.receiveAll()
    }
    let uri = ServerURI(address: listener.address, usesTLS: true)
    let spec = try TLSServerTests.spec()
    let problem = try await failure { () throws(Failure) in
      try await Client().link(uri, tls: spec, timeout: .seconds(60))
    }
    #expect(problem.message == "the server sends TLS records without end, and no data in them")
    #expect(problem.phase == .negotiating && problem.advice == .giveUp)
  }
}

/// A stream under TLS, read on a queue as a worker reads it.
private actor Reader {
  private nonisolated let executor = QueueExecutor(label: "reader")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }
  private let socket: OpenFile
  private var session: TLSSession?
  private var hadTurn = false

  init(_ socket: OpenFile) { self.socket = socket }

  func secure() async throws {
    let authorities = try CertificateLab.authority.get().certificate
    let credentials = try TLSCredentials.load(.certificates(authorities: authorities, certificate: nil, key: nil))
    let session = try TLSSession(credentials, server: .named("storage1"), socket: socket.number)
    try await ByteStream(socket, scope: AttemptScope(queue: executor.queue)).secure(by: session)
    self.session = session
  }

  /// A byte, and whether a block that was put into the queue before has run when it is there.
  func readByte() async throws -> ([UInt8], Bool) {
    let stream = ByteStream(socket, tls: session, scope: AttemptScope(queue: executor.queue))
    hadTurn = false
    executor.queue.async { self.assumeIsolated { $0.hadTurn = true } }
    let bytes = try await stream.read(exactly: 1)
    return (bytes, hadTurn)
  }
}

/// TLS on the server's side, with as many tickets as one likes, which are sent all at once.
///
/// Concurrency model: of the one thread that has made it.
private final class TicketServer {
  private let peer: Peer
  private var session: gnutls_session_t?
  private var credentials: gnutls_certificate_credentials_t?
  private var key = gnutls_datum_t()
  private var output: [UInt8] = []
  private var isHolding = false

  init(_ peer: Peer, _ identity: CertificateLab.Identity) {
    self.peer = peer
    gnutls_certificate_allocate_credentials(&credentials)
    gnutls_certificate_set_x509_key_file(credentials, identity.certificate, identity.key, GNUTLS_X509_FMT_PEM)
    gnutls_init(&session, UInt32(GNUTLS_SERVER))
    gnutls_priority_set_direct(session, "NORMAL:-VERS-ALL:+VERS-TLS1.3", nil)
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials.map { UnsafeMutableRawPointer($0) })
    gnutls_session_ticket_key_generate(&key)
    gnutls_session_ticket_enable_server(session, &key)
    gnutls_transport_set_ptr(session, Unmanaged.passUnretained(self).toOpaque())
    gnutls_transport_set_pull_function(session) { server, buffer, count in
      guard let server, let buffer else { return -1 }
      return recv(Unmanaged<TicketServer>.fromOpaque(server).takeUnretainedValue().peer.number, buffer, count, 0)
    }
    gnutls_transport_set_push_function(session) { server, bytes, count in
      guard let server, let bytes else { return -1 }
      return Unmanaged<TicketServer>.fromOpaque(server).takeUnretainedValue().push(bytes, count)
    }
  }

  deinit {
    gnutls_deinit(session)
    gnutls_certificate_free_credentials(credentials)
    shim_gnutls_free(key.data)
  }

  private func push(_ bytes: UnsafeRawPointer, _ count: Int) -> Int {
    output += UnsafeRawBufferPointer(start: bytes, count: count)
    if !isHolding { sendOutput() }
    return count
  }

  private func sendOutput() {
    var rest = output[...]
    while !rest.isEmpty {
      let sent = rest.withUnsafeBytes { Glibc.send(peer.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      guard sent > 0 else { break }
      rest = rest.dropFirst(sent)
    }
    output = []
  }

  func shakeHands() -> Bool { gnutls_handshake(session) == GNUTLS_E_SUCCESS }

  func send(tickets count: Int, data: [UInt8]) -> Bool {
    isHolding = true
    for _ in 0..<count where gnutls_session_ticket_send(session, 1, 0) != GNUTLS_E_SUCCESS { return false }
    if !data.isEmpty, gnutls_record_send(session, data, data.count) != data.count { return false }
    sendOutput()
    return true
  }
}
