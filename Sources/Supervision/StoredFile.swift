/// What the service manager keeps of `/dev/nbdX` for the next process, each kind under a name of its own; a daemon that does
/// not know a name passes it over.
enum StoredFile: String, CaseIterable {
  /// Sockets that the kernel has.
  case link = ""
  /// Sockets that its relay has: the next process waits until their servers close them.
  case relayLink = ".relay"
  /// What its relay has left.
  case legacy = ".log"

  func name(_ index: Int) -> String { "nbd\(index)\(rawValue)" }

  /// `nil`: it is nothing of ours.
  static func parse(_ name: String) -> (StoredFile, index: Int)? {
    guard name.hasPrefix("nbd") else { return nil }
    let digits = name.dropFirst(3).prefix { $0 != "." }
    guard let index = Int(digits), index >= 0 else { return nil }
    return StoredFile(rawValue: String(name.dropFirst(3 + digits.count))).map { ($0, index) }
  }
}
