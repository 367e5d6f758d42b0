import CGnuTLS

/// Which versions, ciphers and key exchanges are offered, in GnuTLS' priority strings.
package enum TLSPriorities {
  /// TLS 1.3 and 1.2.
  package static let certificates = "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

  /// What the kernel can do.
  package static let kernelCiphers = ":-CIPHER-ALL:+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305"

  /// A pre-shared key goes with SHA-256, for which AES-256-GCM is no match in TLS 1.3; without this order the choice would be
  /// ChaCha20, at a third of the speed of AES-128-GCM.
  package static let presharedKey =
    certificates + kernelCiphers + presharedKeyExchange

  /// Never without forward secrecy. In TLS 1.2 only DHE-PSK goes with AES-GCM; but with it in the first place GnuTLS takes a
  /// finite field in TLS 1.3 too, where there is one, at 20 times the cost of an elliptic curve for both sides.
  private static let presharedKeyExchange = ":-KX-ALL:+DHE-PSK:+ECDHE-PSK:-GROUP-DH-ALL"

  /// What a session offers, given the operator's own string or `nil`. `isForKernel`: it is to be handed over.
  static func effective(_ own: String?, usesPresharedKey: Bool, isForKernel: Bool = false) -> String {
    guard let own else {
      if usesPresharedKey { return presharedKey }
      return isForKernel ? certificates + kernelCiphers : certificates
    }
    return usesPresharedKey ? own + presharedKeyExchange : own
  }

  /// Throws `.priority` where GnuTLS does not understand the string.
  package static func check(_ text: String) throws(TLSError) {
    var priorities: gnutls_priority_t?
    let offset = text.withCString { start -> Int? in
      var position: UnsafePointer<CChar>?
      guard gnutls_priority_init(&priorities, start, &position) < 0 else { return nil }
      return position.map { start.distance(to: $0) } ?? 0
    }
    if let priorities { gnutls_priority_deinit(priorities) }
    if let offset { throw .priority(text, offset: min(max(0, offset), text.utf8.count)) }
  }
}
