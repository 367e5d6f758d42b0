import AttachmentModel
import CGnuTLS
import CertificateLab
import Glibc
import Testing

@testable import TLS

/// There is no kernel with TLS where the tests run: the keys are proved by opening a record with them the way
/// net/tls/tls_sw.c does.
@Suite("keys for the kernel", .requiresCertificates)
struct KernelTLSTests {
  @Test(
    "the kernel would open what the session has sealed, and seal what it opens",
    arguments: ["AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305"], ["VERS-TLS1.2", "VERS-TLS1.3"])
  func records(cipher: String, version: String) throws {
    let client = try makeClient(priorities: "NORMAL:-CIPHER-ALL:+\(cipher):-VERS-ALL:+\(version)")
    let server = try makeServer()
    try shakeHands(client, server.session)
    // The sequence is not 0 any more.
    for _ in 0..<3 {
      _ = try client.sendBytes([1])
      _ = try server.session.sendBytes([1])
    }
    carry(client, to: server.session)
    carry(server.session, to: client)
    _ = try client.receiveBytes()
    let text = Array("as plain as can be".utf8)
    let sending = try RecordKeys(client.session, isReceiving: false)
    _ = try client.sendBytes(text)
    #expect(try open(drained(client), with: sending, version, cipher) == text)
    let receiving = try RecordKeys(client.session, isReceiving: true)
    _ = try server.session.sendBytes(text)
    #expect(try open(drained(server.session), with: receiving, version, cipher) == text)
  }

  private func drained(_ session: TLSSession) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 64 << 10)
    return Array(
      bytes.withUnsafeMutableBytes { UnsafeMutableRawBufferPointer(rebasing: $0[..<session.drain(into: $0)]) })
  }

  /// As tls_sw: the nonce is salt and IV, in TLS 1.3 and with ChaCha XORed with the sequence, else salt and the record's
  /// own eight bytes.
  private func open(_ record: [UInt8], with keys: RecordKeys, _ version: String, _ cipher: String) throws -> [UInt8] {
    let info = keys.info.withBytes { Array($0) }
    let isChaCha = cipher.hasPrefix("CHACHA")
    let isTLS13 = version == "VERS-TLS1.3"
    let type =
      isChaCha
      ? TLS_CIPHER_CHACHA20_POLY1305 : cipher == "AES-128-GCM" ? TLS_CIPHER_AES_GCM_128 : TLS_CIPHER_AES_GCM_256
    let keyLength = cipher == "AES-128-GCM" ? 16 : 32
    let size =
      isChaCha
      ? MemoryLayout<tls12_crypto_info_chacha20_poly1305>.size
      : keyLength == 16
        ? MemoryLayout<tls12_crypto_info_aes_gcm_128>.size : MemoryLayout<tls12_crypto_info_aes_gcm_256>.size
    #expect(info.count == size)
    #expect(info[0...1] == (isTLS13 ? [4, 3] : [3, 3]) && info[2...3] == [UInt8(type), 0])
    let ivLength = isChaCha ? 12 : 8
    let iv = info[4..<4 + ivLength]
    var key = Array(info[4 + ivLength..<4 + ivLength + keyLength])
    let salt = info[4 + ivLength + keyLength..<size - 8]
    let sequence = info[(size - 8)...]
    var nonce = Array(salt + iv)
    var body = record[5...]
    if isTLS13 || isChaCha {
      for (index, byte) in sequence.enumerated() { nonce[4 + index] ^= byte }
    } else {
      #expect(Array(body.prefix(8)) == Array(iv))
      nonce = Array(salt + body.prefix(8))
      body = body.dropFirst(8)
    }
    let length = body.count - 16
    let aad = isTLS13 ? Array(record[..<5]) : sequence + record[..<3] + [UInt8(length >> 8), UInt8(length & 0xff)]
    var handle: gnutls_aead_cipher_hd_t?
    let algorithm =
      isChaCha
      ? GNUTLS_CIPHER_CHACHA20_POLY1305 : keyLength == 16 ? GNUTLS_CIPHER_AES_128_GCM : GNUTLS_CIPHER_AES_256_GCM
    let code = key.withUnsafeMutableBufferPointer { bytes in
      var datum = gnutls_datum_t(data: bytes.baseAddress, size: UInt32(bytes.count))
      return gnutls_aead_cipher_init(&handle, algorithm, &datum)
    }
    try check(code)
    defer { gnutls_aead_cipher_deinit(handle) }
    var plain = [UInt8](repeating: 0, count: body.count)
    var count = plain.count
    let sealed = Array(body)
    let assembled = Array(aad)
    try check(
      gnutls_aead_cipher_decrypt(
        handle, nonce, nonce.count, assembled, assembled.count, 16, sealed, sealed.count, &plain, &count))
    // TLS 1.3 has the record's type behind the text.
    return Array(plain[..<(isTLS13 ? count - 1 : count)])
  }

  @Test("another cipher is not for the kernel")
  func unsupported() throws {
    let client = try makeClient(priorities: "NORMAL:-CIPHER-ALL:+AES-128-CCM:-VERS-ALL:+VERS-TLS1.3")
    try shakeHands(client, try makeServer(priorities: "NORMAL:+AES-128-CCM").session)
    #expect(throws: TLSError.kernel(.unsupported("AES-128-CCM"))) {
      try RecordKeys(client.session, isReceiving: true)
    }
  }

  @Test("only what the kernel can do is offered, unless the operator's own string says otherwise")
  func offered() throws {
    // Asks for the other cipher first.
    let priorities = "NORMAL:-CIPHER-ALL:+AES-128-CCM:+AES-128-GCM:%SERVER_PRECEDENCE"
    for (isForKernel, own, cipher) in [
      (true, nil, "AES-128-GCM"), (false, nil, "AES-128-CCM"), (true, TLSPriorities.certificates, "AES-128-CCM"),
    ] {
      let client = try makeClient(priorities: own, isForKernel: isForKernel)
      try shakeHands(client, try makeServer(priorities: priorities).session)
      #expect(client.version == "TLS 1.3" && client.cipher == cipher)
    }
    let client = try makeClient(isForKernel: true)
    let server = try makeServer(priorities: "NORMAL:-CIPHER-ALL:+AES-128-CCM")
    #expect(throws: TLSError.nothingInCommon(usesPresharedKey: false)) { try shakeHands(client, server.session) }
  }

  @Test("what was read ahead keeps the kernel out")
  func pending() throws {
    let client = try makeClient()
    let server = try makeServer()
    #expect(throws: TLSError.outOfStep) { try client.handOver(toKernel: -1) }
    try shakeHands(client, server.session)
    _ = try server.session.sendBytes([1])
    carry(server.session, to: client)
    #expect(throws: TLSError.kernel(.dataPending)) { try client.handOver(toKernel: -1) }
    _ = try client.receiveBytes()
    _ = try client.sendBytes([1])
    #expect(throws: TLSError.kernel(.dataPending)) { try client.handOver(toKernel: -1) }
  }

  @Test("a Unix socket, and a kernel without TLS, say so, and the session goes on")
  func refused() throws {
    var pair: [Int32] = [0, 0]
    try #require(socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &pair) == 0)
    defer { for number in pair { close(number) } }
    let client = try makeClient()
    let server = try makeServer()
    try shakeHands(client, server.session)
    #expect(throws: TLSError.kernel(.notTCP)) { try client.handOver(toKernel: pair[0]) }
    _ = try client.sendBytes([1])
    carry(client, to: server.session)
    #expect(try server.session.receiveBytes() == [1])
    // Either answer is right here, and each is one that has words.
    if let obstacle = KernelTLS.obstacle() { #expect(!obstacle.message.isEmpty) }
  }
}
