import AttachmentModel
import CertificateLab
import Foundation
import Testing

@testable import TLS

@Suite("files with credentials", .requiresCertificates)
struct CredentialFileTests {
  private func problem(_ source: TLSRequirements.Credentials) -> TLSError? {
    do throws(TLSError) {
      _ = try TLSCredentials.load(source)
      return nil
    } catch { return error }
  }

  private func problem(authorities: String? = nil, certificate: String? = nil, key: String? = nil) -> TLSError? {
    problem(.certificates(authorities: authorities, certificate: certificate, key: key))
  }

  @Test("what is right loads")
  func right() throws {
    let client = try CertificateLab.client.get()
    let authority = try CertificateLab.authority.get()
    #expect(problem(authorities: authority.certificate, certificate: client.certificate, key: client.key) == nil)
    #expect(problem() == nil)
  }

  @Test("a key that belongs to another certificate is refused")
  func mismatch() throws {
    let client = try CertificateLab.client.get()
    let other = try CertificateLab.server.get().key
    let error = problem(certificate: client.certificate, key: other)
    #expect(error == .file(.key, path: other, .keyMismatch))
    #expect(error?.message == "the key in `\(other)` does not belong to the certificate")
  }

  @Test("a certificate of our own that has expired, or is not valid yet, is refused, with the date")
  func dates() throws {
    let expired = try CertificateLab.expiredClient.get()
    #expect(
      problem(certificate: expired.certificate, key: expired.key)?.message
        == "the certificate in `\(expired.certificate)` expired on 2021-02-03 10:20 UTC")
    let future = try CertificateLab.futureServer.get()
    let error = problem(certificate: future.certificate, key: future.key)
    #expect(error == .file(.certificate, path: future.certificate, .notYetValid("2098-01-01 00:00 UTC")))
    #expect(error?.nature == .passing)
  }

  @Test("files that hold something else are refused, each by its name")
  func content() throws {
    let text = try CertificateLab.write("no PEM\n", to: "text")
    let client = try CertificateLab.client.get()
    for (error, file) in [
      (problem(authorities: text), TLSFile.authorities), (problem(authorities: client.key), .authorities),
      (problem(certificate: text, key: client.key), .certificate),
      (problem(certificate: client.certificate, key: text), .key),
    ] {
      guard case .file(file, _, .unusable)? = error else {
        Issue.record("\(String(describing: error))")
        continue
      }
    }
  }

  @Test("files that are not there, or are no files, are refused")
  func unreadable() throws {
    #expect(problem(authorities: "/nowhere/ca.pem") == .file(.authorities, path: "/nowhere/ca.pem", .missing))
    #expect(problem(authorities: "/tmp") == .file(.authorities, path: "/tmp", .unreadable("not a regular file")))
    #expect(
      problem(.presharedKey(file: "/dev/zero", identity: nil))
        == .file(.presharedKeys, path: "/dev/zero", .unreadable("not a regular file")))
    // Its size is 0 to who asks, and more than a page to who reads.
    let endless = problem(authorities: "/proc/kallsyms")
    guard case .file(.authorities, _, .unreadable)? = endless else {
      Issue.record("\(String(describing: endless))")
      return
    }
    let large = try CertificateLab.write(String(repeating: "x", count: (1 << 20) + 1), to: "large")
    #expect(problem(authorities: large) == .file(.authorities, path: large, .tooLarge))
  }

  @Test("a secret that others can read or change is refused when it is used, and used when that is mended")
  func exposed() async throws {
    let client = try CertificateLab.client.get()
    let key = try CertificateLab.write(String(contentsOfFile: client.key, encoding: .utf8), to: "rotated.key")
    let keys = try CertificateLab.write("alice:00112233\n", to: "exposed.psk")
    let sources: [(TLSFile, String, TLSRequirements.Credentials)] = [
      (.key, key, .certificates(authorities: nil, certificate: client.certificate, key: key)),
      (.presharedKeys, keys, .presharedKey(file: keys, identity: nil)),
    ]
    for (file, path, source) in sources {
      let settled = try await current(source)
      for (mode, isEverybody) in [(0o644, true), (0o602, true), (0o640, false)] as [(mode_t, Bool)] {
        chmod(path, mode)
        // Whoever keeps what was loaded loads again.
        #expect(!settled.isCurrent)
        let problem = problem(source)
        #expect(problem == .file(file, path: path, .exposed(toEverybody: isEverybody)))
        #expect(problem?.hint == "chmod go= \(path)")
      }
      chmod(path, 0o400)
      #expect(problem(source) == nil)
    }
    // Certificates are no secret.
    chmod(client.certificate, 0o644)
    #expect(problem(authorities: nil, certificate: client.certificate, key: client.key) == nil)
    #expect(TLSFile.Problem.ofSecret(owner: 0, mode: 0o100600) == nil)
    #expect(TLSFile.Problem.ofSecret(owner: geteuid(), mode: 0o100400) == nil)
    #expect(TLSFile.Problem.ofSecret(owner: 4711, mode: 0o100600) == .foreign(owner: 4711))
    #expect(
      TLSError.file(.key, path: "/k", .foreign(owner: 4711)).message
        == "`/k` belongs to another user (number 4711), who can read and change the secret")
  }

  @Test("a credential of the service is found in its directory, and missed in the user's words")
  func credentials() throws {
    let file = try CertificateLab.write("alice:00112233\n", to: "psk-credential")
    let source = TLSRequirements.Credentials.presharedKey(file: "credential:psk-credential", identity: nil)
    unsetenv("CREDENTIALS_DIRECTORY")
    let error = problem(source)
    #expect(error?.message == "the service has no credential `psk-credential`")
    #expect(error?.hint == "add LoadCredential=psk-credential:PATH to the unit of the service")
    setenv("CREDENTIALS_DIRECTORY", (file as NSString).deletingLastPathComponent, 1)
    defer { unsetenv("CREDENTIALS_DIRECTORY") }
    #expect(problem(source) == nil)
    // Its permissions are systemd's affair.
    chmod(file, 0o644)
    #expect(problem(source) == nil)
    let other = problem(.presharedKey(file: "credential:other", identity: nil))
    #expect(other?.message == "the service has no credential `other`")
  }

  @Test("credentials whose files were replaced, rewritten in place or removed are no longer current")
  func rotation() async throws {
    let (old, new) = ("alice:00112233\n", "alice:44556677\n")
    let path = try CertificateLab.write(old, to: "rotated.psk")
    let source = TLSRequirements.Credentials.presharedKey(file: path, identity: nil)
    // Rewritten at once, in the same tick of the file system's clock and with the same size.
    let first = try TLSCredentials.load(source)
    #expect(!first.isCurrent)
    try rewrite(path, new)
    #expect(!first.isCurrent)

    let settled = try await current(source)
    try rewrite(path, old)
    #expect(!settled.isCurrent)
    let second = try await current(source)
    let other = try CertificateLab.write(new, to: "next.psk")
    try #require(rename(other, path) == 0)
    #expect(!second.isCurrent)
    let third = try await current(source)
    unlink(path)
    #expect(!third.isCurrent)
  }

  @Test("a client certificate that is put into a folder later is a change of it")
  func laterCertificate() async throws {
    let authority = try CertificateLab.authority.get()
    let client = try CertificateLab.client.get()
    let folder = try CertificateLab.folder("later-folder", authority: authority)
    let before = try await current(.folder(folder))
    try FileManager.default.copyItem(atPath: client.key, toPath: "\(folder)/client-key.pem")
    #expect(before.isCurrent)
    try FileManager.default.copyItem(atPath: client.certificate, toPath: "\(folder)/client-cert.pem")
    #expect(!before.isCurrent)
    guard case .certificates(_, _, hasCertificate: true) = try TLSCredentials.load(.folder(folder)).kind else {
      Issue.record("without the certificate")
      return
    }
  }

  /// Loads until the files are old enough to be told from later ones.
  private func current(_ source: TLSRequirements.Credentials) async throws -> TLSCredentials {
    while true {
      let credentials = try TLSCredentials.load(source)
      if credentials.isCurrent { return credentials }
      try await Task.sleep(for: .milliseconds(5))
    }
  }

  /// Without another inode.
  private func rewrite(_ path: String, _ text: String) throws {
    let file = try #require(FileHandle(forWritingAtPath: path))
    try file.write(contentsOf: Data(text.utf8))
    try file.close()
  }

  @Test("every message is one line without a full stop")
  func messages() {
    let problems: [TLSFile.Problem] = [
      .missing, .foreign(owner: 1), .exposed(toEverybody: true), .missingCredential("a", directory: nil),
      .missingCredential("a", directory: "/run"), .unreadable("x"),
      .tooLarge, .unusable("x"), .keyMismatch, .expired("x"), .notYetValid("x"), .malformedLine(1), .noIdentity("a"),
      .ambiguousIdentity(2),
    ]
    let certificates: [CertificateProblem] = [
      .wrongName(expected: "a", names: []), .wrongName(expected: "a", names: ["b", "c", "d", "e", "f", "g"]),
      .expired("x", subject: nil), .expired("x", subject: "CN=a"), .notYetValid("x", subject: nil),
      .notYetValid("x", subject: "CN=a"), .unknownAuthority(issuer: "a"), .selfSigned, .revoked, .badSignature,
      .insecureAlgorithm, .wrongPurpose, .other("x"),
    ]
    var errors: [TLSError] = [
      .clientCertificateRefused(wasPresented: true, alert: "x"),
      .clientCertificateRefused(wasPresented: false, alert: nil), .presharedKeyRefused(identity: "a\n", alert: nil),
      .nothingInCommon(usesPresharedKey: true), .nothingInCommon(usesPresharedKey: false), .unknownServerName("a"),
      .alert(1, "x"), .notTLS, .noData, .closed, .renegotiation, .system("recv", 104), .priority("NORML", offset: 9),
      .library(-1, "x"), .outOfStep, .kernel(.noModule), .kernel(.notTCP), .kernel(.unsupported("x")),
      .kernel(.dataPending), .kernel(.refused("x", 1)),
    ]
    errors += TLSFile.allCases.flatMap { file in problems.map { .file(file, path: "/a\nb", $0) } }
    errors += certificates.flatMap {
      [.certificate([$0], ownAuthorities: true), .certificate([$0], ownAuthorities: false)]
    }
    for text in errors.flatMap({ [$0.message, $0.hint].compactMap { $0 } }) {
      #expect(!text.isEmpty && !text.contains("\n") && !text.hasSuffix("."), "\(text)")
    }
  }
}
