import AttachmentModel
import CGnuTLS
import CertificateLab
import Testing

@testable import TLS

@Suite("who the other is", .requiresCertificates)
struct VerificationTests {
  /// What the client says of the server.
  private func refusal(
    by client: TLSSession, of identity: Result<CertificateLab.Identity, any Error>
  ) throws -> TLSError {
    let server = try makeServer(identity.get())
    var serverError: TLSError?
    do throws(TLSError) { try shakeHands(client, server.session, serverError: &serverError) } catch {
      carry(client, to: server.session)
      // The server learns that it was refused.
      if case .certificate = error {
        #expect(throws: TLSError.self) { try server.session.handshake() }
      }
      #expect(throws: error) { try client.handshake() }
      return error
    }
    throw CertificateLab.Problem(description: "the server was accepted")
  }

  @Test("a server of another name is refused, and both names are said")
  func wrongName() throws {
    let error = try refusal(by: makeClient(), of: CertificateLab.otherServer)
    #expect(error.message == "the certificate is for storage2, storage3, and storage1 is expected")
    #expect(error.nature == .final)
    #expect(error.hint?.contains("tls.server-name") == true)
    let address = try refusal(by: makeClient(.named("192.0.2.1")), of: CertificateLab.server)
    #expect(address.message == "the certificate is for storage1, localhost, 127.0.0.1, and 192.0.2.1 is expected")
  }

  @Test("a server of this name or address is accepted", arguments: ["storage1", "STORAGE1", "localhost", "127.0.0.1"])
  func rightName(name: String) throws {
    let client = try makeClient(.named(name))
    try shakeHands(client, try makeServer().session)
    #expect(client.summary != nil)
  }

  @Test("an IPv6 address in the certificate counts, and no other")
  func addressOfVersion6() throws {
    let identity = try CertificateLab.issue("version6", by: CertificateLab.authority.get(), addresses: ["::1"])
    for name in ["::1", "0:0:0:0:0:0:0:1"] {
      let client = try makeClient(.named(name))
      try shakeHands(client, try makeServer(identity).session)
      #expect(client.summary != nil)
    }
    let error = try refusal(by: makeClient(.named("::2")), of: .success(identity))
    #expect(error.message == "the certificate is for ::1, and ::2 is expected")
  }

  @Test(
    "the server is told the name that is expected of it, and no address",
    arguments: [("storage1", "storage1"), ("localhost", "localhost"), ("127.0.0.1", nil)] as [(String, String?)])
  func serverName(name: String, told: String?) throws {
    for verified in [TLSRequirements.Server.named(name), .anybody(name: name)] {
      let server = try makeServer()
      try shakeHands(try makeClient(verified), server.session)
      #expect(server.toldName == told)
    }
  }

  @Test("an expired certificate says when it did")
  func expired() throws {
    let error = try refusal(by: makeClient(), of: CertificateLab.expiredServer)
    #expect(error.message == "the server's certificate expired on 2021-02-03 10:20 UTC")
    #expect(error.nature == .final)
  }

  @Test("one that is not yet valid says from when it is, and may be by the next try: clocks are set late")
  func future() throws {
    let error = try refusal(by: makeClient(), of: CertificateLab.futureServer)
    #expect(error.message == "the server's certificate is not valid before 2098-01-01 00:00 UTC")
    #expect(error.nature == .passing)
  }

  @Test("an authority that nobody knows is named")
  func unknownAuthority() throws {
    let error = try refusal(by: makeClient(), of: CertificateLab.foreignServer)
    #expect(
      error.message
        == "the server's certificate is signed by an authority that ca-file does not hold (CN=other-authority)")
    let credentials = try TLSCredentials.load(.certificates(authorities: nil, certificate: nil, key: nil))
    let client = try TLSSession(credentials, server: .named("storage1"), socket: nil)
    let system = try refusal(by: client, of: CertificateLab.server)
    #expect(
      system.message
        == "the server's certificate is signed by an authority that this system does not trust (CN=authority)")
  }

  @Test("several reasons are all said")
  func several() throws {
    let error = try refusal(by: makeClient(.named("storage9")), of: CertificateLab.expiredServer)
    #expect(error.message.contains("expired on 2021-02-03") && error.message.contains("storage9 is expected"))
  }

  @Test("a certificate that is not for servers is refused")
  func purpose() throws {
    let client = try CertificateLab.issue(
      "client-as-server", by: CertificateLab.authority.get(), names: ["storage1"], purpose: .client)
    let error = try refusal(by: makeClient(), of: .success(client))
    #expect(error.message == "the server's certificate is not one for servers (its extended key usage)")
  }

  @Test("only who asks for it gets no verification")
  func unverified() throws {
    for identity in [CertificateLab.otherServer, CertificateLab.expiredServer, CertificateLab.foreignServer] {
      let client = try makeClient(.anybody(name: "storage1"))
      try shakeHands(client, try makeServer(identity.get()).session)
      #expect(client.summary != nil)
    }
  }

  // MARK: The client's certificate

  private func server(priorities: String = "NORMAL") throws -> TestServer {
    try TestServer(
      .certificate(CertificateLab.server.get(), clientAuthority: CertificateLab.authority.get()), priorities: priorities
    )
  }

  @Test("a server that wants a certificate gets it")
  func clientCertificate() throws {
    let client = try makeClient(identity: CertificateLab.client.get())
    try shakeHands(client, try server().session)
    #expect(client.wasAskedForCertificate)
  }

  @Test("one that is missing or refused is said, in TLS 1.3 when the first bytes are read", arguments: [true, false])
  func refusedCertificate(isPresented: Bool) throws {
    for priorities in ["NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.2"] {
      let client = try makeClient(identity: isPresented ? CertificateLab.foreignClient.get() : nil)
      let server = try server(priorities: priorities)
      var serverError: TLSError?
      var error: TLSError?
      do throws(TLSError) {
        try shakeHands(client, server.session, serverError: &serverError)
        _ = try client.receiveBytes()
      } catch let problem { error = problem }
      #expect(serverError != nil)
      guard case .clientCertificateRefused(isPresented, let alert?)? = error else {
        Issue.record("\(String(describing: error)) \(priorities)")
        continue
      }
      #expect(!alert.isEmpty && error?.nature == .final && error?.hint != nil)
    }
  }

  @Test("a server that closes without a word leaves a suspicion")
  func suspicion() throws {
    for identity in [nil, try CertificateLab.foreignClient.get()] {
      let client = try makeClient(identity: identity)
      var serverError: TLSError?
      try shakeHands(client, try server().session, serverError: &serverError)
      #expect(client.suspicionAfterEnd == .clientCertificateRefused(wasPresented: identity != nil, alert: nil))
    }
    let client = try makeClient()
    try shakeHands(client, try makeServer().session)
    #expect(client.suspicionAfterEnd == nil)
  }

  // MARK: What is offered

  @Test("old versions are not offered, unless they are asked for")
  func versions() throws {
    let old = "NORMAL:-VERS-ALL:+VERS-TLS1.1"
    var serverError: TLSError?
    let error = #expect(throws: TLSError.self) {
      try shakeHands(try makeClient(), try makeServer(priorities: old).session, serverError: &serverError)
      if let serverError { throw serverError }
    }
    #expect(error != nil)
    // Nothing else keeps them apart.
    let asked = try makeClient(priorities: old)
    try shakeHands(asked, try makeServer(priorities: old).session)
    #expect(asked.summary?.hasPrefix("TLS 1.1") == true)
    let both = "NORMAL:-VERS-ALL:+VERS-TLS1.2:+VERS-TLS1.1:%COMPAT"
    let client = try makeClient(priorities: both)
    try shakeHands(client, try makeServer(priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.2").session)
    #expect(client.summary?.hasPrefix("TLS 1.2") == true)
  }

  @Test("the priorities choose the cipher")
  func cipher() throws {
    let client = try makeClient(priorities: "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305")
    try shakeHands(client, try makeServer().session)
    #expect(client.summary == "TLS 1.3, CHACHA20-POLY1305")
  }

  @Test("where a priority string is wrong is said")
  func priorities() throws {
    try TLSPriorities.check("NORMAL:-VERS-ALL:+VERS-TLS1.3")
    let error = #expect(throws: TLSError.self) { try TLSPriorities.check("NORMAL:+VERS-TLS9") }
    guard case .priority(_, let offset)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect((6...8).contains(offset))
    #expect(throws: TLSError.self) { try makeClient(priorities: "NORML") }
  }
}
