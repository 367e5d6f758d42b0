import AttachmentModel
import CGnuTLS
import CertificateLab
import Testing

@testable import TLS

@Suite("pre-shared keys")
struct PresharedKeyTests {
  private static let key = "0123456789abcdef0123456789ABCDEF"

  private func client(_ content: String, identity: String? = nil) throws -> TLSSession {
    let file = try CertificateLab.write(content, to: "client.psk")
    return try TLSSession(
      TLSCredentials.load(.presharedKey(file: file, identity: identity)),
      server: .anybody(name: nil), socket: nil)
  }

  private func server(priorities: String = "NORMAL:-KX-ALL:+ECDHE-PSK:+DHE-PSK") throws -> TestServer {
    let file = try CertificateLab.write("alice:\(Self.key)\nbob:00112233445566778899aabbccddeeff\n", to: "server.psk")
    return try TestServer(.presharedKeys(file), priorities: priorities)
  }

  @Test("the same key on both sides is enough, and cipher and key exchange are fast ones")
  func same() throws {
    let client = try client("alice:\(Self.key)\n")
    let server = try server()
    try shakeHands(client, server.session)
    #expect(client.summary == "TLS 1.3, AES-128-GCM")
    #expect(gnutls_group_get(client.session) == GNUTLS_GROUP_SECP256R1)
    _ = try client.sendBytes([1, 2])
    carry(client, to: server.session)
    #expect(try server.session.receiveBytes() == [1, 2])
  }

  @Test("TLS 1.2 has them too")
  func older() throws {
    let client = try client("alice:\(Self.key)\n")
    try shakeHands(client, try server(priorities: "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+ECDHE-PSK:+DHE-PSK").session)
    #expect(client.summary?.hasPrefix("TLS 1.2, AES-256-GCM") == true)
  }

  @Test("a wrong key and an unknown identity are said to be refused", arguments: ["alice:00", "mallory:" + key])
  func wrong(content: String) throws {
    let content = content == "alice:00" ? "alice:" + String(repeating: "0", count: 32) : content
    let client = try client(content)
    var serverError: TLSError?
    let error = #expect(throws: TLSError.self) {
      try shakeHands(client, try server().session, serverError: &serverError)
      _ = try client.handshake()
    }
    guard case .presharedKeyRefused(let identity, _)? = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect(content.hasPrefix(identity))
    #expect(error?.nature == .final)
    #expect(error?.message.hasPrefix("the server refused the pre-shared key of `\(identity)`") == true)
  }

  @Test("the identity chooses among the keys of a file")
  func identity() throws {
    let file = "# keys\n\nbob:ff\r\nalice:\(Self.key)\n"
    try shakeHands(try client(file, identity: "alice"), try server().session)
    func problem(_ content: String, _ identity: String?) throws -> TLSFile.Problem? {
      let error = #expect(throws: TLSError.self) { try client(content, identity: identity) }
      if case .file(.presharedKeys, _, let problem)? = error { return problem }
      return nil
    }
    #expect(try problem(file, nil) == .ambiguousIdentity(2))
    #expect(try problem(file, "carol") == .noIdentity("carol"))
    #expect(try problem("\n# nothing\n", nil) == .unusable("it is empty"))
    for line in ["alice", "alice:", ":00", "alice:0", "alice:xy", "al\u{FFFD}ice:0g"] {
      #expect(try problem("# first\n\(line)\n", nil) == .malformedLine(2), "\(line)")
    }
  }
}
