/// Judges the host of a TCP address by its text alone; nothing is looked up.
package enum HostName {
  struct Problem {
    var message: String
    var hint: String?
  }

  /// `nil` for a host name or an IPv4 address. Underscores are let through: names in private networks have them.
  static func problem(_ text: String) -> Problem? {
    let bytes = Array(text.utf8)
    if let odd = text.unicodeScalars.first(where: { !$0.isHostCharacter }) {
      let isForeign = odd.value > 127
      return Problem(
        message: "\(String(Character(odd)).quoted()) may not stand in a host name",
        hint: isForeign ? "write the name in its ASCII form, `xn--…`" : nil)
    }
    if bytes.count > 253 { return Problem(message: "the host name is longer than 253 bytes") }
    var labels = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
    if labels.count > 1, labels.last?.isEmpty == true { labels.removeLast() }
    if labels.contains(where: \.isEmpty) { return Problem(message: "the host name has an empty part") }
    if labels.contains(where: { $0.count > 63 }) {
      return Problem(message: "a part of the host name is longer than 63 bytes")
    }
    // What ends in a number can only be an address: no top-level domain is one (RFC 3696, section 2).
    if labels.last?.allSatisfy(\.isDigit) == true, !isIPv4(labels) {
      return Problem(message: "\(text.quoted()) is no IPv4 address", hint: "write four numbers from 0 to 255")
    }
    return nil
  }

  /// `nil` for an IPv6 address, maybe with `%zone`.
  static func ipv6Problem(_ text: String) -> Problem? {
    var bytes = Array(text.utf8)[...]
    if let percent = bytes.firstIndex(of: UInt8(ascii: "%")) {
      let zone = bytes[percent...].dropFirst()
      // An interface name is shorter than IFNAMSIZ, 16.
      guard (1...15).contains(zone.count), zone.allSatisfy(\.isUnreserved) else {
        return Problem(message: "the zone of the IPv6 address is no interface name")
      }
      bytes = bytes[..<percent]
    }
    guard isIPv6(bytes) else { return Problem(message: "\(text.quoted()) is no IPv6 address") }
    return nil
  }

  /// The host is an address rather than a name: there is nothing to look up, and TLS has no name to check.
  package static func isAddress(_ host: String) -> Bool {
    isIPv4(Array(host.utf8).split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false))
      || ipv6Problem(host) == nil
  }

  private static func isIPv4(_ parts: [ArraySlice<UInt8>]) -> Bool {
    parts.count == 4
      && parts.allSatisfy { part in
        (1...3).contains(part.count) && part.allSatisfy(\.isDigit)
          && (part.count == 1 || part.first != UInt8(ascii: "0"))
          && UInt8(String(decoding: part, as: UTF8.self)) != nil
      }
  }

  /// RFC 4291, section 2.2: eight groups, one run of them maybe `::`, the last two maybe an IPv4 address.
  private static func isIPv6(_ bytes: ArraySlice<UInt8>) -> Bool {
    guard (2...45).contains(bytes.count) else { return false }
    let text = String(decoding: bytes, as: UTF8.self)
    let halves = splitAtDoubleColon(text)
    guard halves.count <= 2 else { return false }
    var groups = 0
    for (index, half) in halves.enumerated() where !half.isEmpty {
      let parts = half.utf8.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
      for (position, part) in parts.enumerated() {
        let isLast = index == halves.count - 1 && position == parts.count - 1
        if isLast, part.contains(UInt8(ascii: ".")) {
          let numbers = Array(part).split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
          guard isIPv4(numbers) else { return false }
          groups += 2
        } else {
          guard (1...4).contains(part.count), part.allSatisfy({ $0.hexValue != nil }) else { return false }
          groups += 1
        }
      }
    }
    return halves.count == 2 ? groups <= 7 : groups == 8
  }

  /// The pieces of `text` between the occurrences of `::`.
  private static func splitAtDoubleColon(_ text: String) -> [String] {
    var pieces = [""]
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      if byte == UInt8(ascii: ":"), rest.first == UInt8(ascii: ":") {
        rest = rest.dropFirst()
        pieces.append("")
      } else {
        pieces[pieces.count - 1].unicodeScalars.append(Unicode.Scalar(byte))
      }
    }
    return pieces
  }
}

extension Unicode.Scalar {
  fileprivate var isHostCharacter: Bool {
    guard let byte = UInt8(exactly: value) else { return false }
    return byte.isUnreserved && byte != UInt8(ascii: "~")
  }
}
