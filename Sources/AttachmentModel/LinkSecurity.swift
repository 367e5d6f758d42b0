/// What protects the links of an attachment.
package struct LinkSecurity: Equatable, Sendable, Codable {
  /// Who makes the records: the relay, or the kernel.
  package enum Place: String, CaseIterable, Sendable, Codable {
    case relay
    case kernel
  }

  /// Such as `TLS 1.3`.
  package var version: String
  /// Such as `AES-256-GCM`.
  package var cipher: String
  package var place: Place
  /// The server has proved who it is.
  package var isServerVerified: Bool

  package init(version: String, cipher: String, place: Place, isServerVerified: Bool) {
    self.version = version
    self.cipher = cipher
    self.place = place
    self.isServerVerified = isServerVerified
  }
}
