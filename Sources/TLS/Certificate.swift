import CGnuTLS
import Glibc

/// An X.509 certificate, to say what is wrong with it.
final class Certificate {
  private let certificate: gnutls_x509_crt_t

  /// `nil` for what is no certificate in DER.
  convenience init?(_ datum: gnutls_datum_t) {
    var made: gnutls_x509_crt_t?
    guard gnutls_x509_crt_init(&made) >= 0, let made else { return nil }
    self.init(owning: made)
    var datum = datum
    guard gnutls_x509_crt_import(made, &datum, GNUTLS_X509_FMT_DER) >= 0 else { return nil }
  }

  private init(owning certificate: gnutls_x509_crt_t) { self.certificate = certificate }

  deinit { gnutls_x509_crt_deinit(certificate) }

  /// All certificates in a PEM file, the first of them the owner's; or GnuTLS' code.
  static func list(_ pem: Secret) -> Result<[Certificate], LibraryError> {
    var list: UnsafeMutablePointer<gnutls_x509_crt_t?>?
    var count: UInt32 = 0
    let code = pem.withDatum { gnutls_x509_crt_list_import2(&list, &count, &$0, GNUTLS_X509_FMT_PEM, 0) }
    guard code >= 0, let list else { return .failure(LibraryError(code)) }
    defer { shim_gnutls_free(list) }
    return .success(
      UnsafeBufferPointer(start: list, count: Int(count)).compactMap { $0.map(Certificate.init(owning:)) })
  }

  var expiration: time_t { gnutls_x509_crt_get_expiration_time(certificate) }
  var activation: time_t { gnutls_x509_crt_get_activation_time(certificate) }

  /// What a client compares: DNS names and addresses, or where there is none the common name.
  var names: [String] {
    var names: [String] = []
    for index in 0..<UInt32(100) {
      var buffer = [UInt8](repeating: 0, count: 1024)
      var size = buffer.count
      let type = gnutls_x509_crt_get_subject_alt_name(certificate, index, &buffer, &size, nil)
      if type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE { break }
      guard type >= 0 else { continue }
      let value = buffer.prefix(size)
      switch UInt32(type) {
      case GNUTLS_SAN_DNSNAME.rawValue: names.append(shown(String(decoding: value, as: UTF8.self)))
      case GNUTLS_SAN_IPADDRESS.rawValue: names.append(Certificate.address(Array(value)))
      default: break
      }
    }
    if names.isEmpty, let name = commonName { names.append(name) }
    return names
  }

  /// The distinguished name of its owner, such as `CN=storage1`.
  var subject: String { text { gnutls_x509_crt_get_dn(certificate, $0, $1) } ?? "no name" }
  var issuer: String { text { gnutls_x509_crt_get_issuer_dn(certificate, $0, $1) } ?? "no name" }
  var isSelfSigned: Bool { gnutls_x509_crt_check_issuer(certificate, certificate) != 0 }

  private var commonName: String? {
    text { gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, $0, $1) }
  }

  private func text(_ read: (UnsafeMutablePointer<CChar>, UnsafeMutablePointer<Int>) -> Int32) -> String? {
    var size = 2048
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: size) { buffer in
      guard let base = buffer.baseAddress, read(base, &size) >= 0 else { return nil }
      return shown(String(decoding: UnsafeRawBufferPointer(buffer).prefix(min(size, buffer.count)), as: UTF8.self))
    }
  }

  private static func address(_ bytes: [UInt8]) -> String {
    var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
    let family = bytes.count == 4 ? AF_INET : AF_INET6
    guard bytes.count == 4 || bytes.count == 16, inet_ntop(family, bytes, &text, socklen_t(text.count)) != nil else {
      return "an address"
    }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// Such as `2026-11-23 19:54 UTC`.
  static func date(_ time: time_t) -> String {
    var time = time
    var parts = tm()
    guard gmtime_r(&time, &parts) != nil else { return "an impossible date" }
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    return "\(1900 + Int(parts.tm_year))-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday)) "
      + "\(two(parts.tm_hour)):\(two(parts.tm_min)) UTC"
  }
}

/// A GnuTLS call that failed.
struct LibraryError: Error {
  let code: Int32

  init(_ code: Int32) { self.code = code }

  var text: String { gnutls_strerror(code).map { String(cString: $0) } ?? "unknown error" }
}

/// Throws where GnuTLS says that something failed.
@discardableResult
func check(_ code: Int32) throws(TLSError) -> Int32 {
  guard code < 0 else { return code }
  throw .library(code, LibraryError(code).text)
}
