import CGnuTLS
import Glibc

/// TLS records made by the kernel: keys handed over after the handshake (linux/tls.h, Documentation/networking/tls.rst).
package enum KernelTLS {
  /// Why the kernel does not take a connection.
  package enum Obstacle: Equatable, Sendable {
    /// The kernel has no `tls` module, or it is not loaded.
    case noModule
    case notTCP
    /// Not one of TLS 1.2 and 1.3 with AES-GCM or ChaCha20-Poly1305, or one of these that this kernel does not have.
    case unsupported(String)
    /// Bytes have been read from the socket that the kernel would have to have, or wait to be sent.
    case dataPending
    /// The call, and its errno.
    case refused(String, Int32)
  }

  /// Whether the kernel has TLS: `nil`, or why not. Asks a socket that is not connected, which the module refuses with
  /// ENOTCONN and a kernel without it with ENOENT.
  package static func obstacle() -> Obstacle? {
    let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    guard number >= 0 else { return .refused("socket", errno) }
    defer { close(number) }
    guard setsockopt(number, Int32(IPPROTO_TCP), TCP_ULP, "tls", 3) != 0 else { return nil }
    switch errno {
    case ENOTCONN: return nil
    case ENOENT: return .noModule
    default: return .refused("setsockopt TCP_ULP", errno)
    }
  }
}

extension KernelTLS.Obstacle {
  package var message: String {
    switch self {
    case .noModule: "this kernel has no TLS: its module tls is not loaded, or it was made without"
    case .notTCP: "the kernel does TLS over TCP only"
    case .unsupported(let what): "the kernel has no TLS with \(what)"
    case .dataPending: "TLS data is still under way, so the kernel can't take the connection over"
    case .refused(let call, let code): "the kernel refused the TLS keys: \(call): \(String(cString: strerror(code)))"
    }
  }

  package var hint: String? {
    switch self {
    case .noModule: "modprobe tls, or write `datapath: relay`"
    case .notTCP: "write `datapath: relay`"
    case .unsupported: "allow others in tls.priority and on the server, or write `datapath: relay`"
    case .dataPending, .refused: nil
    }
  }
}

extension TLSSession {
  /// Gives the keys to the kernel: from now on `send` and `recv` on the socket carry plaintext, and this session can
  /// only go.
  ///
  /// Only after the server's reply to NBD_OPT_GO has been read: session tickets lie before it in the stream, and a record
  /// that is not data would be an error to whoever reads the socket. Throws `.kernel`; after `.refused` of another call
  /// than TCP_ULP the connection is of no more use.
  package func handOver(toKernel socket: Int32) throws(TLSError) {
    guard state == .established else { throw .outOfStep }
    guard !transport.hasIncoming, !transport.hasOutgoing, gnutls_record_check_pending(session) == 0 else {
      throw .kernel(.dataPending)
    }
    let receiving = try RecordKeys(session, isReceiving: true)
    let sending = try RecordKeys(session, isReceiving: false)
    guard setsockopt(socket, Int32(IPPROTO_TCP), TCP_ULP, "tls", 3) == 0 else {
      let code = errno
      let isUnix = code == EOPNOTSUPP || code == ENOPROTOOPT
      throw .kernel(code == ENOENT ? .noModule : isUnix ? .notTCP : .refused("setsockopt TCP_ULP", code))
    }
    state = .handedOver
    try receiving.set(on: socket, TLS_RX, "setsockopt TLS_RX")
    try sending.set(on: socket, TLS_TX, "setsockopt TLS_TX")
  }
}

/// One direction's keys as the kernel takes them, a `struct tls12_crypto_info_*`; wiped when they go.
struct RecordKeys {
  let info: Secret
  /// Such as `TLS 1.3, AES-256-GCM`.
  let name: String

  init(_ session: gnutls_session_t, isReceiving: Bool) throws(TLSError) {
    let cipher = gnutls_cipher_get(session)
    let version = gnutls_protocol_get_version(session)
    var mac = gnutls_datum_t()
    var iv = gnutls_datum_t()
    var key = gnutls_datum_t()
    var sequence = InlineArray<8, UInt8>(repeating: 0)
    var code = GNUTLS_E_INVALID_REQUEST
    withUnsafeMutableBytes(of: &sequence) { bytes in
      guard let base = bytes.baseAddress?.assumingMemoryBound(to: UInt8.self) else { return }
      // The data points into the session.
      code = gnutls_record_get_state(session, isReceiving ? 1 : 0, &mac, &iv, &key, base)
    }
    try check(code)
    name = "\(versionName(of: version)), \(cipherName(of: cipher))"
    let layout = try Layout(cipher, version)
    let ivBytes = UnsafeRawBufferPointer(start: iv.data, count: Int(iv.size))
    let keyBytes = UnsafeRawBufferPointer(start: key.data, count: Int(key.size))
    guard ivBytes.count >= layout.ivNeeded, keyBytes.count == layout.keyLength else {
      throw .kernel(.unsupported("keys of this shape"))
    }
    info = withUnsafeBytes(of: &sequence) { layout.pack(iv: ivBytes, key: keyBytes, sequence: $0) }
  }

  func set(on socket: Int32, _ direction: Int32, _ call: String) throws(TLSError) {
    let result = info.withBytes { setsockopt(socket, SOL_TLS, direction, $0.baseAddress, socklen_t($0.count)) }
    guard result != 0 else { return }
    switch errno {
    // Unknown to this kernel, or without what computes it (net/tls/tls_main.c, crypto_alloc_aead).
    case EINVAL, ENOENT, EOPNOTSUPP: throw .kernel(.unsupported(name))
    case let code: throw .kernel(.refused(call, code))
    }
  }

  /// How the parts lie in the struct: all are bytes but version and cipher at its head, so that nothing is padded.
  private struct Layout {
    let version: UInt16
    let cipher: Int32
    let keyLength: Int
    let isChaCha: Bool

    init(_ cipher: gnutls_cipher_algorithm_t, _ protocolVersion: gnutls_protocol_t) throws(TLSError) {
      switch protocolVersion {
      case GNUTLS_TLS1_2: version = 0x0303
      case GNUTLS_TLS1_3: version = 0x0304
      default: throw .kernel(.unsupported(versionName(of: protocolVersion)))
      }
      switch cipher {
      case GNUTLS_CIPHER_AES_128_GCM: (self.cipher, keyLength, isChaCha) = (TLS_CIPHER_AES_GCM_128, 16, false)
      case GNUTLS_CIPHER_AES_256_GCM: (self.cipher, keyLength, isChaCha) = (TLS_CIPHER_AES_GCM_256, 32, false)
      case GNUTLS_CIPHER_CHACHA20_POLY1305:
        (self.cipher, keyLength, isChaCha) = (TLS_CIPHER_CHACHA20_POLY1305, 32, true)
      default: throw .kernel(.unsupported(cipherName(of: cipher)))
      }
    }

    private var isTLS12: Bool { version == 0x0303 }
    /// Of GnuTLS' IV, in bytes: salt and nonce, or in TLS 1.2 with AES the salt alone.
    var ivNeeded: Int { isTLS12 && !isChaCha ? 4 : 12 }

    func pack(iv: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer, sequence: UnsafeRawBufferPointer) -> Secret {
      let saltLength = isChaCha ? 0 : 4
      let nonce = isTLS12 && !isChaCha ? sequence[...] : iv[saltLength..<12]
      let size = 2 + 2 + nonce.count + key.count + saltLength + sequence.count
      return withUnsafeTemporaryAllocation(byteCount: size, alignment: 8) { buffer in
        defer { Secret.wipe(buffer) }
        buffer.storeBytes(of: version, as: UInt16.self)
        buffer.storeBytes(of: UInt16(truncatingIfNeeded: cipher), toByteOffset: 2, as: UInt16.self)
        var offset = 4
        for part in [nonce, key[...], iv[..<saltLength], sequence[...]] {
          UnsafeMutableRawBufferPointer(rebasing: buffer[offset...]).copyBytes(from: part)
          offset += part.count
        }
        return Secret(UnsafeRawBufferPointer(buffer))
      }
    }
  }
}
