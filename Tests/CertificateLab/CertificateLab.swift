import Foundation
package import Testing

/// Authorities, certificates and keys, made by certtool(1) when they are first asked for and removed with the process.
package enum CertificateLab {
  package struct Problem: Error, CustomStringConvertible {
    package let description: String

    package init(description: String) { self.description = description }
  }

  /// A certificate and its key, by their paths.
  package struct Identity: Sendable {
    package let certificate: String
    package let key: String

    package init(certificate: String, key: String) {
      self.certificate = certificate
      self.key = key
    }
  }

  /// Whose purpose a certificate is.
  package enum Purpose: String, Sendable {
    case server = "tls_www_server"
    case client = "tls_www_client"
  }

  package static var isPossible: Bool { FileManager.default.isExecutableFile(atPath: "/usr/bin/certtool") }

  /// The authority that tests trust, and another.
  package static let authority = Result { try makeAuthority("authority") }
  package static let otherAuthority = Result { try makeAuthority("other-authority") }

  /// For `storage1`, `localhost` and 127.0.0.1.
  package static let server = Result {
    try issue("storage1", by: authority.get(), names: ["storage1", "localhost"], addresses: ["127.0.0.1"])
  }
  package static let otherServer = Result {
    try issue("storage2", by: authority.get(), names: ["storage2", "storage3"])
  }
  package static let expiredServer = Result {
    try issue("expired", by: authority.get(), names: ["storage1"], from: "2020-01-01", until: "2021-02-03")
  }
  package static let futureServer = Result {
    try issue("future", by: authority.get(), names: ["storage1"], from: "2098-01-01", until: "2099-02-03")
  }
  package static let foreignServer = Result { try issue("foreign", by: otherAuthority.get(), names: ["storage1"]) }
  package static let client = Result { try issue("client", by: authority.get(), purpose: .client) }
  package static let foreignClient = Result { try issue("foreign-client", by: otherAuthority.get(), purpose: .client) }
  package static let expiredClient = Result {
    try issue("expired-client", by: authority.get(), purpose: .client, from: "2020-01-01", until: "2021-02-03")
  }

  /// A file in the lab's directory; its path.
  @discardableResult
  package static func write(_ text: String, to name: String, mode: Int = 0o600) throws -> String {
    let path = try directory.get() + "/" + name
    try Data(text.utf8).write(to: URL(fileURLWithPath: path))
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    return path
  }

  /// A directory as nbdkit, QEMU and libnbd want it: `ca-cert.pem`, `server-cert.pem`, … for whatever is given; its path.
  package static func folder(
    _ name: String, authority: Identity? = nil, server: Identity? = nil, client: Identity? = nil
  ) throws -> String {
    let path = try directory.get() + "/" + name
    try? FileManager.default.removeItem(atPath: path)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    for (identity, role) in [(server, "server"), (client, "client")] {
      guard let identity else { continue }
      try FileManager.default.copyItem(atPath: identity.certificate, toPath: "\(path)/\(role)-cert.pem")
      try FileManager.default.copyItem(atPath: identity.key, toPath: "\(path)/\(role)-key.pem")
    }
    if let authority {
      try FileManager.default.copyItem(atPath: authority.certificate, toPath: "\(path)/ca-cert.pem")
    }
    return path
  }

  // MARK: certtool

  package static func issue(
    _ name: String, by authority: Identity, names: [String] = [], addresses: [String] = [], purpose: Purpose = .server,
    from activation: String = "2020-01-01", until expiration: String = "2090-01-01"
  ) throws -> Identity {
    var template = """
      cn = "\(name)"
      \(purpose.rawValue)
      signing_key
      activation_date = "\(activation) 00:00:00"
      expiration_date = "\(expiration) 10:20:30"

      """
    for name in names { template += "dns_name = \"\(name)\"\n" }
    for address in addresses { template += "ip_address = \"\(address)\"\n" }
    let identity = try newIdentity(name, template)
    try run(
      "--generate-certificate", "--load-privkey", identity.key, "--load-ca-certificate", authority.certificate,
      "--load-ca-privkey", authority.key, "--template", templateFile(name), "--outfile", identity.certificate)
    return identity
  }

  private static func makeAuthority(_ name: String) throws -> Identity {
    let identity = try newIdentity(
      name,
      """
      cn = "\(name)"
      ca
      cert_signing_key
      activation_date = "2020-01-01 00:00:00"
      expiration_date = "2090-01-01 00:00:00"

      """)
    try run(
      "--generate-self-signed", "--load-privkey", identity.key, "--template", templateFile(name), "--outfile",
      identity.certificate)
    return identity
  }

  private static func newIdentity(_ name: String, _ template: String) throws -> Identity {
    try write(template, to: "\(name).template")
    let base = try directory.get() + "/" + name
    try run("--generate-privkey", "--key-type=ecdsa", "--outfile", base + ".key")
    return Identity(certificate: base + ".pem", key: base + ".key")
  }

  private static func templateFile(_ name: String) throws -> String { try directory.get() + "/\(name).template" }

  private static let directory: Result<String, any Error> = Result {
    let path = NSTemporaryDirectory() + "nbdattach-certificates-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    // Nothing of a global is freed when the process ends.
    atexit { CertificateLab.removeAll() }
    return path
  }

  private static func removeAll() {
    if let path = try? directory.get() { try? FileManager.default.removeItem(atPath: path) }
  }

  private static func run(_ arguments: String...) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/certtool")
    process.arguments = arguments
    let output = Pipe()
    process.standardError = output
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    let text = output.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Problem(description: "certtool \(arguments): \(String(decoding: text, as: UTF8.self))")
    }
  }
}

extension Trait where Self == ConditionTrait {
  /// Skips where certificates can't be made.
  package static var requiresCertificates: Self {
    .enabled(if: CertificateLab.isPossible, "not installed: certtool (gnutls-bin)")
  }
}
