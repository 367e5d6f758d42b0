import AttachmentModel
import Testing

@Suite("what TLS with a server takes")
struct TLSRequirementsTests {
  private func requirements(
    _ uri: String, _ change: (inout TLSSpec) -> Void = { _ in }
  ) throws -> TLSRequirements {
    var spec = TLSSpec()
    change(&spec)
    return try TLSRequirements(ServerURI(parsing: uri), spec)
  }

  @Test("without anything it is the system's authorities and the host's name")
  func standard() throws {
    let bare = try TLSRequirements(ServerURI(parsing: "nbds://storage1/x"), nil)
    #expect(bare.credentials == .certificates(authorities: nil, certificate: nil, key: nil))
    #expect(bare.server == .named("storage1") && bare.priorities == nil && !bare.isUnverified)
    #expect(try requirements("nbds://[fe80::1%25eth0]/").server == .named("fe80::1"))
    #expect(try requirements("nbds://192.0.2.1/").server == .named("192.0.2.1"))
  }

  @Test("the name is the URI's, else the mapping's, else the host")
  func name() throws {
    #expect(try requirements("nbds://h/?tls-hostname=a") { $0.serverName = "b" }.server == .named("a"))
    #expect(try requirements("nbds://h/") { $0.serverName = "b" }.server == .named("b"))
    #expect(try requirements("nbds+unix:///?socket=/s") { $0.serverName = "b" }.server == .named("b"))
    #expect(throws: TLSRequirements.Problem.noServerName) { try requirements("nbds+unix:///?socket=/s") }
    #expect(throws: TLSRequirements.Problem.noServerName) { try requirements("nbds+vsock://2") }
  }

  @Test("only `verify: none` and `tls-verify-peer=0` leave the server unverified")
  func unverified() throws {
    #expect(try requirements("nbds+unix:///?socket=/s") { $0.verify = .none }.server == .anybody(name: nil))
    let byURI = try requirements("nbds://h/?tls-verify-peer=0")
    #expect(byURI.server == .anybody(name: "h") && byURI.isUnverified)
    #expect(try requirements("nbds://h/?tls-verify-peer=1").server == .named("h"))
  }

  @Test("a file of keys means pre-shared keys, and the identity is the user's name")
  func keys() throws {
    let own = try requirements("nbds+unix:///?socket=/s") {
      $0.pskFile = "/k"
      $0.pskIdentity = "al"
    }
    #expect(own.credentials == .presharedKey(file: "/k", identity: "al"))
    #expect(!own.isUnverified)
    let byURI = try requirements("nbds://bo@h/?tls-psk-file=/l") { $0.pskFile = "/k" }
    #expect(byURI.credentials == .presharedKey(file: "/l", identity: "bo"))
    #expect(throws: TLSRequirements.Problem.noPresharedKeys) { try requirements("nbds://h/?tls-type=psk") }
    #expect(
      try requirements("nbds://h/?tls-type=x509") { $0.pskFile = "/k" }.credentials
        == .certificates(authorities: nil, certificate: nil, key: nil))
  }

  @Test("certificates come from a folder or from files")
  func certificates() throws {
    #expect(try requirements("nbds://h/?tls-certificates=/d").credentials == .folder("/d"))
    let files = try requirements("nbds://h/") {
      $0.caFile = "/a"
      $0.certificateFile = "/b"
      $0.keyFile = "/c"
      $0.priority = "NORMAL"
    }
    #expect(files.credentials == .certificates(authorities: "/a", certificate: "/b", key: "/c"))
    #expect(files.priorities == "NORMAL")
  }

  @Test("no link may have less protection than any server with TLS is declared with")
  func protection() throws {
    func spec(_ servers: String..., verify: TLSVerification = .full) throws -> AttachmentSpec {
      var spec = AttachmentSpec(name: "data", servers: try servers.map { try ServerURI(parsing: $0) })
      spec.tls = TLSSpec()
      spec.tls?.verify = verify
      return spec
    }
    #expect(try spec("nbd://h").requiredProtection == .none)
    #expect(try spec("nbds://h").requiredProtection == .verified)
    #expect(try spec("nbds://h", "nbd://h").requiredProtection == .verified)
    #expect(try spec("nbds://h", verify: .none).requiredProtection == .unverified)
    #expect(try spec("nbds://h", "nbds://i/?tls-verify-peer=0").requiredProtection == .unverified)
    let data = try spec("nbds://h")
    #expect(try data.protection(by: ServerURI(parsing: "nbd://i")) == .none)
    #expect(try data.protection(by: ServerURI(parsing: "nbds://i/?tls-verify-peer=0")) == .unverified)
    #expect(try data.protection(by: ServerURI(parsing: "nbds://i")) == .verified)
    #expect(try data.protection(by: ServerURI(parsing: "nbds://i/?tls-type=psk&tls-psk-file=/k")) == .verified)
  }

  @Test("anonymous TLS is refused")
  func anonymous() throws {
    #expect(throws: TLSRequirements.Problem.anonymous) { try requirements("nbds://h/?tls-type=anon") }
  }
}
