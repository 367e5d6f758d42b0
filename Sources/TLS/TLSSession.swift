package import AttachmentModel
import CGnuTLS
import Glibc

/// One TLS connection, client side, over a nonblocking socket or without one. No call blocks, and none but `init`
/// allocates.
///
/// What to poll the socket for: for writing while `wantsToWrite`; for reading, where more is wanted, once
/// `hasBufferedInput` is false. What is decrypted already, or read ahead, shows in no poll.
///
/// Concurrency model: one thread at a time. It may be handed from one to another between two calls (the connector's
/// queue, then the relay's thread), which whoever hands it over orders; hence unchecked.
package final class TLSSession: @unchecked Sendable {
  /// Where `handshake()` stands.
  package enum Step: Equatable, Sendable {
    case done
    case wantsToRead
    case wantsToWrite
  }

  /// What came of a `send` or `receive`.
  package enum Transfer: Equatable, Sendable {
    /// Bytes, at least 1 unless 0 were offered.
    case count(Int)
    case wouldBlock
    /// The peer has ended the session, or only the connection under it.
    case end
  }

  enum State: Equatable {
    /// Can become: `established`, `failed`.
    case handshaking
    /// Can become: `closing`, `ended`, `failed`, `handedOver`.
    case established
    /// We have taken leave, and send nothing more; what the peer still sends is read. Can become: `ended`, `failed`.
    case closing
    /// The peer takes no more part; what it sent before can be read.
    case ended
    case failed(TLSError)
    /// The kernel makes the records.
    case handedOver
  }

  /// Room for a record of the largest size in TLS 1.2, and for a KeyUpdate.
  private static let recordRoom = (16 << 10) + 4096
  /// Records under one key, which is then updated: fewer than AES-GCM allows (RFC 8446, section 5.5).
  static let recordsOfKey = 1 << 24
  /// The most records without data, and warnings, that one call listens to.
  private static let maximumAsides = 16

  let session: gnutls_session_t
  let transport: TLSTransport
  let credentials: TLSCredentials?
  let server: TLSRequirements.Server
  let priorities: String?
  private let isForKernel: Bool
  var state = State.handshaking
  /// How many more records this key is for, in TLS 1.3.
  var recordsLeft = TLSSession.recordsOfKey
  /// The server has sent data, so that it has accepted us.
  private(set) var hasReceived = false
  // GnuTLS keeps the pointers.
  private let name: UnsafeMutablePointer<CChar>?
  private let purpose: UnsafeMutablePointer<CChar>?
  private let expectation: UnsafeMutablePointer<gnutls_typed_vdata_st>

  /// `priorities`: `nil` for those of `TLSPriorities`. `socket`: connected and nonblocking, it stays the caller's and
  /// must stay open; `nil`: bytes come and go by `feed` and `drain`. `isForKernel`: unless `priorities` say otherwise, only
  /// what the kernel can do is offered.
  package convenience init(
    _ credentials: TLSCredentials, server: TLSRequirements.Server, priorities: String? = nil, socket: Int32?,
    isForKernel: Bool = false
  ) throws(TLSError) {
    let flags = UInt32(GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL)
    try self.init(
      flags: flags, credentials, server, priorities: priorities, socket: socket, isForKernel: isForKernel)
    try configure(credentials)
  }

  /// Without anything set but the transport.
  init(
    flags: UInt32, _ credentials: TLSCredentials?, _ server: TLSRequirements.Server, priorities: String? = nil,
    socket: Int32?, isForKernel: Bool = false
  ) throws(TLSError) {
    var made: gnutls_session_t?
    try check(gnutls_init(&made, flags))
    guard let made else { throw .outOfStep }
    session = made
    transport = TLSTransport(descriptor: socket)
    self.credentials = credentials
    self.server = server
    self.priorities = priorities
    self.isForKernel = isForKernel
    name = server.name.flatMap { strdup($0) }
    purpose = strdup(GNUTLS_KP_TLS_WWW_SERVER)
    expectation = .allocate(capacity: 2)
    transport.serve(made)
  }

  deinit {
    gnutls_deinit(session)
    expectation.deallocate()
    free(name)
    free(purpose)
  }

  private func configure(_ credentials: TLSCredentials) throws(TLSError) {
    switch credentials.kind {
    case .certificates(let object, _, _):
      try setPriorities(usingPresharedKey: false)
      try check(gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, UnsafeMutableRawPointer(object)))
      guard case .named = server else { break }
      guard let name else { throw .outOfStep }
      expectation.initialize(to: Self.expected(GNUTLS_DT_DNS_HOSTNAME, name))
      (expectation + 1).initialize(to: Self.expected(GNUTLS_DT_KEY_PURPOSE_OID, purpose))
      gnutls_session_set_verify_cert2(session, expectation, 2, 0)
    case .presharedKey(let object, _):
      try setPriorities(usingPresharedKey: true)
      try check(gnutls_credentials_set(session, GNUTLS_CRD_PSK, UnsafeMutableRawPointer(object)))
    }
    // An address is no name to ask for (RFC 6066, section 3).
    if let name, !isAddress(name) { try check(gnutls_server_name_set(session, GNUTLS_NAME_DNS, name, strlen(name))) }
  }

  private func isAddress(_ text: UnsafePointer<CChar>) -> Bool {
    var address = in6_addr()
    return inet_pton(AF_INET, text, &address) == 1 || inet_pton(AF_INET6, text, &address) == 1
  }

  private static func expected(
    _ type: gnutls_vdata_types_t, _ text: UnsafeMutablePointer<CChar>?
  ) -> gnutls_typed_vdata_st {
    let bytes = UnsafeMutableRawPointer(text)?.assumingMemoryBound(to: UInt8.self)
    return gnutls_typed_vdata_st(type: type, data: bytes, size: UInt32(text.map { strlen($0) } ?? 0))
  }

  func setPriorities(usingPresharedKey: Bool) throws(TLSError) {
    let text = TLSPriorities.effective(
      priorities, usesPresharedKey: usingPresharedKey, isForKernel: isForKernel)
    let code = gnutls_priority_set_direct(session, text, nil)
    if code == GNUTLS_E_INVALID_REQUEST { try TLSPriorities.check(text) }
    try check(code)
  }

  /// Goes on with the handshake as far as it can be without waiting.
  ///
  /// Throws `.certificate` when the server's is not to be relied on; by then the server has got nothing from us but
  /// our greeting, and it is told why.
  package func handshake() throws(TLSError) -> Step {
    switch state {
    case .handshaking: break
    case .established: return try flush() ? .done : .wantsToWrite
    case .failed(let error): throw error
    case .closing, .ended, .handedOver: throw .outOfStep
    }
    var warnings = 0
    while true {
      let code = gnutls_handshake(session)
      if code == GNUTLS_E_SUCCESS {
        state = .established
        return try flush() ? .done : .wantsToWrite
      }
      if code == GNUTLS_E_WARNING_ALERT_RECEIVED, warnings < Self.maximumAsides {
        warnings += 1
      } else if code == GNUTLS_E_AGAIN {
        return try flush() ? .wantsToRead : .wantsToWrite
      } else if code != GNUTLS_E_INTERRUPTED {
        throw fail(code)
      }
    }
  }

  /// Decrypts into `buffer`, record after record, until it is full or nothing is there.
  package func receive(into buffer: UnsafeMutableRawBufferPointer) throws(TLSError) -> Transfer {
    switch state {
    case .established, .closing: break
    case .ended: return .end
    case .failed(let error): throw error
    case .handshaking, .handedOver: throw .outOfStep
    }
    guard let base = buffer.baseAddress, buffer.count > 0 else { return .count(0) }
    var count = 0
    var asides = 0
    while count < buffer.count {
      let result = gnutls_record_recv(session, base + count, buffer.count - count)
      if result > 0 {
        count += result
        hasReceived = true
      } else if result == 0 || result == Int(GNUTLS_E_PREMATURE_TERMINATION) {
        state = .ended
        break
      } else if result == Int(GNUTLS_E_AGAIN) {
        // Also after a record that is not data, such as a ticket, be there more or not.
        guard transport.hasIncoming, asides < Self.maximumAsides else { break }
        asides += 1
      } else if result == Int(GNUTLS_E_WARNING_ALERT_RECEIVED), asides < Self.maximumAsides {
        asides += 1
      } else if result != Int(GNUTLS_E_INTERRUPTED) {
        let error = fail(Int32(clamping: result))
        // What came before it is whole; the next call says what is wrong.
        if count == 0 { throw error }
        break
      }
    }
    if count > 0 { return .count(count) }
    return state == .ended ? .end : .wouldBlock
  }

  /// Encrypts `bytes` and sends as much as the socket takes; how many bytes are taken care of, which need not be given
  /// again. The rest of their ciphertext waits for `flush()`, as `wantsToWrite` says. `more`: others follow at once, so
  /// that nothing need be sent yet.
  package func send(_ bytes: UnsafeRawBufferPointer, more: Bool = false) throws(TLSError) -> Transfer {
    switch state {
    case .established: break
    case .closing, .ended: return .end
    case .failed(let error): throw error
    case .handshaking, .handedOver: throw .outOfStep
    }
    guard let base = bytes.baseAddress, bytes.count > 0 else { return .count(0) }
    var count = 0
    while count < bytes.count {
      if transport.room < Self.recordRoom {
        _ = try flush()
        if transport.room < Self.recordRoom { break }
      }
      // With that room GnuTLS never has to say AGAIN, after which it would want the same bytes once more.
      let result = gnutls_record_send(session, base + count, bytes.count - count)
      if result <= 0 { throw fail(Int32(clamping: result)) }
      count += result
      recordsLeft -= 1
      if recordsLeft <= 0 { try updateKeys() }
    }
    if !more { _ = try flush() }
    return count > 0 ? .count(count) : .wouldBlock
  }

  /// New keys for both directions, as the peer is asked for its own; TLS 1.2 has no such thing. There is room for it.
  private func updateKeys() throws(TLSError) {
    recordsLeft = Self.recordsOfKey
    guard gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 else { return }
    let code = gnutls_session_key_update(session, UInt32(GNUTLS_KU_PEER))
    if code != GNUTLS_E_SUCCESS { throw fail(code) }
  }

  /// Sends ciphertext that waits; whether all of it has gone.
  @discardableResult
  package func flush() throws(TLSError) -> Bool {
    if case .failed(let error) = state { throw error }
    transport.flush()
    if let error = transport.failure {
      state = .failed(error)
      throw error
    }
    return !transport.hasOutgoing
  }

  /// Gives back the memory of buffers that nothing has passed since the last call. Whether there is something left to
  /// give back later.
  package func trimMemory() -> Bool { transport.trimMemory() }

  /// What would block does so for want of memory, and the socket counts as ready all the while: try again later.
  package var isShortOfMemory: Bool { transport.isShortOfMemory }

  /// Ciphertext waits for the socket to take more: poll it for writing, then `flush()`.
  package var wantsToWrite: Bool { transport.hasOutgoing && state != .handedOver }

  /// `receive` has something to say without another byte from the socket.
  package var hasBufferedInput: Bool {
    switch state {
    case .ended, .failed: true
    case .handshaking, .handedOver: false
    case .established, .closing: transport.hasIncoming || gnutls_record_check_pending(session) > 0
    }
  }

  /// Takes leave (close_notify), as far as the socket takes it at once; what it does not take is dropped. Nothing can be
  /// sent after it, and what the peer still sends is received as before.
  package func close() {
    guard state == .established || state == .ended else { return }
    _ = gnutls_bye(session, GNUTLS_SHUT_WR)
    transport.flush()
    transport.endOutput()
    if state == .established { state = .closing }
  }

  /// Remembers the failure, tells the peer where that makes sense, and says it in the user's words.
  private func fail(_ code: Int32) -> TLSError {
    let error = explain(code)
    if transport.failure == nil, code != GNUTLS_E_FATAL_ALERT_RECEIVED, code != GNUTLS_E_PREMATURE_TERMINATION {
      _ = gnutls_alert_send_appropriate(session, code)
      transport.flush()
    }
    state = .failed(error)
    return error
  }

  // MARK: Without a socket

  /// Takes ciphertext from the peer, as much as there is room for; how many bytes.
  package func feed(_ bytes: UnsafeRawBufferPointer) -> Int { transport.feed(bytes) }

  /// The peer sends nothing more.
  package func feedEnd() { transport.feedEnd() }

  /// Moves ciphertext for the peer into `target`; how many bytes.
  package func drain(into target: UnsafeMutableRawBufferPointer) -> Int { transport.drain(into: target) }
}
