import AttachmentModel
import CertificateLab
import Foundation
import TLS
import Testing

@testable import Configuration

@Suite("What `tls` demands")
struct TLSConfigurationTests {
  @Test("the values reach their places")
  func values() {
    let loaded = loadAttachment(
      "uri: nbds://h",
      "tls: { ca-file: credential:ca, certificate-file: /b, key-file: 'credential:the.key', server-name: d, "
        + "verify: full, priority: 'NORMAL:-VERS-ALL:+VERS-TLS1.3' }")
    #expect(loaded.diagnostics.isEmpty)
    let one = AttachmentSpec(name: "x", servers: [])
    #expect(one.tls == nil)
  }

  @Test(
    "bad values are refused, at their place",
    arguments: [
      ("verify: nobody", "4:20 unknown value `nobody`"), ("verify: auto", "4:20 unknown value `auto`"),
      ("verify: true", "4:20 unknown value `true`"),
      ("ca-file: 'credential:'", "4:21 `` can't be the name of a credential"),
      ("ca-file: credential:a/b", "4:21 `a/b` can't be the name of a credential"),
      ("ca-file: credential:..", "4:21 `..` can't be the name of a credential"),
      ("ca-file: Credential:a", "4:21 `Credential:a` is not an absolute path"),
      ("priority: NORML", "4:22 the TLS priorities can't be understood from `NORML` on"),
      ("priority: 'NORMAL:+FOO'", "4:30 the TLS priorities can't be understood from `+FOO` on"),
    ])
  func bad(entry: String, place: String) {
    let loaded = loadAttachment("uri: nbds://h", "tls: { \(entry) }")
    #expect(loaded.diagnostics.map { "\($0.line):\($0.column) \($0.message)" } == [place])
  }

  @Test("who does not verify is warned each time, wherever it is said")
  func unverified() {
    let message =
      "the server's certificate is not verified: whoever answers in its place can read and change everything"
    for (uri, tls, place) in [
      ("nbds://h", "{ verify: none }", "4:20"), ("nbds+unix:///?socket=/s", "{ verify: none }", "4:20"),
      ("nbds://h?tls-verify-peer=0", "{ ca-file: /c }", "3:10"),
    ] {
      let loaded = loadAttachment("uri: '\(uri)'", "tls: \(tls)")
      #expect(
        loaded.diagnostics.map { "\($0.severity) \($0.line):\($0.column) \($0.message)" } == [
          "warning \(place) \(message)"
        ])
    }
    #expect(loadAttachment("uri: nbds://h").diagnostics.isEmpty)
  }

  @Test(
    "what makes no sense together is refused",
    arguments: [
      (
        "nbds://h?tls-type=anon", "{ ca-file: /c }",
        "anonymous TLS protects from nobody who stands between, and is not done"
      ),
      ("nbds://h?tls-type=psk", "{ ca-file: /c }", "`tls-type=psk` needs a file of keys"),
      ("nbds+unix:///?socket=/s", "{ ca-file: /c }", "no name to compare the server's certificate with"),
      (
        "nbds://h", "{ psk-file: /k, verify: none }",
        "`verify: none` means nothing with `psk-file`: the key is the server's proof"
      ),
      (
        "nbds://h?tls-verify-peer=1", "{ verify: none }",
        "`tls-verify-peer` in the URI and `tls.verify` say the same thing"
      ),
    ])
  func contradictions(uri: String, tls: String, message: String) {
    let loaded = loadAttachment("uri: '\(uri)'", "tls: \(tls)")
    #expect(loaded.diagnostics.filter { $0.severity == .error }.map(\.message) == [message])
  }

  @Test("each file is judged at the key that names it, and read once for all attachments")
  func files() {
    let text = """
      attachments:
        x:
          uri: nbds://h
          tls:
            ca-file: /ca
            certificate-file: /cert
            key-file: /key
        y: { uri: nbds://i, tls: { ca-file: /ca, certificate-file: /cert, key-file: /key } }
      """
    func messages(_ problems: TLSError...) -> [String] {
      load(("a.yaml", text), credentials: { _ in problems }).diagnostics.filter { $0.line < 8 }
        .map { "\($0.severity) \($0.line):\($0.column) \($0.message)" }
    }
    #expect(
      messages(.file(.authorities, path: "/ca", .missing), .file(.key, path: "/key", .keyMismatch)) == [
        "warning 5:16 there is no file `/ca`", "error 7:17 the key in `/key` does not belong to the certificate",
      ])
    #expect(
      messages(.file(.certificate, path: "/cert", .expired("2021-02-03 10:20 UTC"))) == [
        "warning 6:25 the certificate in `/cert` expired on 2021-02-03 10:20 UTC"
      ])
    #expect(messages(.file(.certificate, path: "/cert", .notYetValid("2098-01-01 00:00 UTC"))).count == 1)
    #expect(
      messages(.file(.certificate, path: "/cert", .unusable("x"))) == [
        "error 6:25 `/cert` holds no certificate in PEM: x"
      ])
    // Said already where its permissions are looked at.
    #expect(messages(.file(.key, path: "/key", .missing)).isEmpty)
    // Who can't look at it must not be told that all is well.
    #expect(
      messages(.file(.key, path: "/key", .unreadable("Permission denied"))) == [
        "warning 7:17 `/key` can't be read: Permission denied"
      ])
  }

  @Test("secrets that only the URI names are looked at too")
  func uriFiles() {
    for uri in ["nbds://h?tls-certificates=/d", "nbds://h?tls-psk-file=/k"] {
      let loaded = load(
        ("a.yaml", "attachments: { x: { uri: '\(uri)' } }\n"), keyFiles: { _ in .file(owner: 0, mode: 0o644) })
      #expect(loaded.diagnostics.count == 1)
      #expect(loaded.diagnostics.first?.message.hasPrefix("everybody can read or change the secret in") == true)
    }
  }

  @Test("files of this machine are read, and what is in them is judged", .requiresCertificates)
  func real() throws {
    let directory = try Directory()
    let client = try CertificateLab.client.get()
    let expired = try CertificateLab.expiredClient.get()
    let authority = try CertificateLab.authority.get()
    func problems(_ ca: String, _ certificate: String, _ key: String) throws -> [String] {
      try directory.write(
        "a.yaml",
        """
        attachments:
          x:
            uri: nbds://h
            tls:
              ca-file: \(ca)
              certificate-file: \(certificate)
              key-file: \(key)

        """)
      let loaded = ConfigurationLoader.load(ConfigurationPaths(named: [directory.path + "/a.yaml"]))
      return loaded.diagnostics.map { "\($0.severity) \($0.line) \($0.message)" }
    }
    #expect(try problems(authority.certificate, client.certificate, client.key) == [])
    #expect(
      try problems(authority.certificate, client.certificate, expired.key) == [
        "error 7 the key in `\(expired.key)` does not belong to the certificate"
      ])
    #expect(
      try problems(client.key, expired.certificate, expired.key).map { $0.prefix(9) } == ["error 5 `", "warning 6"])
    chmod(client.key, 0o644)
    defer { chmod(client.key, 0o600) }
    #expect(
      try problems(authority.certificate, client.certificate, client.key) == [
        "error 7 everybody can read or change the secret in `\(client.key)`"
      ])
  }
}
