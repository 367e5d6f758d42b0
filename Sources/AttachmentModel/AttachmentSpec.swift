/// What an operator declared for one attachment, checked and with every default filled in.
///
/// Values come from `Configuration`; two specs that compare equal need no action on reload.
package struct AttachmentSpec: Equatable, Sendable, Codable {
  /// Unique among attachments: 1 to 64 of `A-Z a-z 0-9 . _ -`, not starting with `.` or `-`.
  package var name: String
  /// Never empty; tried in this order.
  package var servers: [ServerURI]
  package var device: DeviceSelection = .anyFree
  /// The device is read-only even where the server would take writes.
  package var isReadOnly = false
  /// `nil`: automatic. 1 to 16.
  package var connections: Int?
  /// Logical block size of the device in bytes, a power of two from 512 to 65536. `nil`: automatic.
  package var blockSize: Int?
  package var kernelInterface: KernelInterface?
  package var datapath: Datapath?
  /// From name look-up to the end of negotiation.
  package var connectTimeout: Duration = .seconds(10)
  /// A request unanswered that long means a lost link. `nil`: infinity.
  package var requestTimeout: Duration?
  /// How long I/O is held while no server answers. `nil`: infinity.
  package var reconnectTimeout: Duration?
  /// Acknowledged, not yet flushed writes kept for replay, in bytes.
  package var unflushedLimit: UInt64 = 64 << 20
  /// How long the writes that a silent server still holds are waited for before they are sent elsewhere. `nil`: for ever.
  package var fenceTimeout: Duration?
  /// After what time on another than its first server the attachment tries to go back. `nil`: never.
  package var failBack: Duration?
  package var retry = RetryPolicy()
  package var tls: TLSSpec?
  /// The size in bytes that the export must have. `nil`: any.
  package var expectedSize: UInt64?

  package init(name: String, servers: [ServerURI]) {
    self.name = name
    self.servers = servers
  }
}

extension AttachmentSpec {
  /// Whether a relay stands between kernel and server.
  package var isRelayed: Bool { datapath == nil || datapath == .relay }
}

/// Which `/dev/nbdX` an attachment is bound to.
package enum DeviceSelection: Equatable, Hashable, Sendable, Codable {
  case anyFree
  case index(Int)
}

/// How a link gets into the kernel; `nil` where it is held means automatic.
package enum KernelInterface: String, CaseIterable, Sendable, Codable {
  case netlink
  case ioctl
}

/// What the kernel's socket is; `nil` where it is held means automatic.
package enum Datapath: String, CaseIterable, Sendable, Codable {
  case relay
  case direct
  case ktls
}

/// Bounds of the exponential back-off between tries.
package struct RetryPolicy: Equatable, Sendable, Codable {
  package var initial: Duration = .milliseconds(100)
  package var maximum: Duration = .seconds(30)

  package init(initial: Duration = .milliseconds(100), maximum: Duration = .seconds(30)) {
    self.initial = initial
    self.maximum = maximum
  }
}

/// What is demanded of a server's certificate.
package enum TLSVerification: String, CaseIterable, Sendable, Codable {
  /// An authority that we trust has signed it, it is valid now, and it is for that server.
  case full
  case none
}

/// The `tls:` mapping. Files are absolute paths, or `credential:NAME`.
package struct TLSSpec: Equatable, Sendable, Codable {
  package var caFile: String?
  package var certificateFile: String?
  package var keyFile: String?
  package var serverName: String?
  package var pskFile: String?
  package var pskIdentity: String?
  package var verify = TLSVerification.full
  /// GnuTLS' priority string.
  package var priority: String?

  package init() {}
}

extension AttachmentSpec {
  /// Throws, with the reason, where `text` can't be the name of an attachment.
  ///
  /// Names become part of device links, of unit names and of log fields, hence the narrow alphabet.
  package static func checkName(_ text: String) throws(TextError) {
    let bytes = Array(text.utf8)
    let all = 0..<bytes.count
    guard !bytes.isEmpty else { throw TextError(.whole, all, "the name is empty") }
    guard bytes.count <= 64 else { throw TextError(.whole, all, "the name is longer than 64 characters") }
    if let scalar = text.unicodeScalars.first(where: { UInt8(exactly: $0.value).map { !$0.isNameCharacter } ?? true }) {
      throw TextError(
        .whole, all, "\(String(scalar).quoted()) may not stand in a name",
        hint: "names are made of the letters A-Z and a-z, digits, `.`, `_` and `-`")
    }
    if let first = bytes.first, first == UInt8(ascii: ".") || first == UInt8(ascii: "-") {
      throw TextError(.whole, all, "a name may not begin with \(String(UnicodeScalar(first)).quoted())")
    }
    let digits = bytes.reversed().prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }.count
    if digits > 0, bytes.dropLast(digits).suffix(5).elementsEqual("-part".utf8) {
      throw TextError(
        .whole, all,
        "a name may not end with \("-part\(String(decoding: bytes.suffix(digits), as: UTF8.self))".quoted())",
        hint: "that is how the partitions of another attachment are named in /dev/disk/by-nbd, write `_part`")
    }
  }
}

extension UInt8 {
  fileprivate var isNameCharacter: Bool { isUnreserved && self != UInt8(ascii: "~") }
}
