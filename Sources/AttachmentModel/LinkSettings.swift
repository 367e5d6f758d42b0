/// What of a spec its links are made with: where it changes, new links have to be made, and no new device.
package struct LinkSettings: Equatable, Sendable {
  package var servers: [ServerURI]
  package var tls: TLSSpec?
  package var expectedSize: UInt64?
  /// `nil` also where a relay keeps it, which takes another without new links.
  package var requestTimeout: Duration?
}

extension AttachmentSpec {
  package var linkSettings: LinkSettings {
    get {
      LinkSettings(
        servers: servers, tls: tls, expectedSize: expectedSize, requestTimeout: isRelayed ? nil : requestTimeout)
    }
    set {
      servers = newValue.servers
      tls = newValue.tls
      expectedSize = newValue.expectedSize
      if !isRelayed { requestTimeout = newValue.requestTimeout }
    }
  }
}
