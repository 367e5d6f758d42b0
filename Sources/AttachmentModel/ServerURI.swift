/// One server and export, as an NBD URI names them (`doc/uri.md` of the nbd project).
package struct ServerURI: Equatable, Hashable, Sendable {
  package var address: ServerAddress
  /// Percent-decoded, without the slash that separates it from the authority; "" is the default export.
  package var exportName: String
  /// `nbds`, `nbds+unix` or `nbds+vsock`.
  package var usesTLS: Bool
  /// The TLS user name (userinfo), if any.
  package var userName: String?
  /// `tls-type`, `tls-hostname`, … by key, percent-decoded. Only keys of the specification get here.
  package var tlsParameters: [String: String]

  package init(
    address: ServerAddress, exportName: String = "", usesTLS: Bool = false, userName: String? = nil,
    tlsParameters: [String: String] = [:]
  ) {
    self.address = address
    self.exportName = exportName
    self.usesTLS = usesTLS
    self.userName = userName
    self.tlsParameters = tlsParameters
  }
}

/// Where a server listens.
package enum ServerAddress: Equatable, Hashable, Sendable {
  /// Host name or literal address (IPv6 without brackets, maybe with `%zone`), and port 1…65535.
  case tcp(host: String, port: UInt16)
  /// A path, or with `isAbstract` a name in the abstract namespace (without its leading NUL).
  case unix(path: String, isAbstract: Bool = false)
  case vsock(cid: UInt32, port: UInt32)
}
