/// One socket to the server, as the ledger sees it.
struct Link {
  /// What may be sent on it.
  enum Standing: Equatable {
    /// It leads to the server whose acknowledgements the log holds: everything. Can become: `leaving`.
    case proven
    /// It may lead to a server that has restarted, while an older link is dead and nobody has noticed: nothing, until
    /// a FLUSH that was sent on a proven link after this one joined has succeeded, or no proven link is left and the
    /// log has been sent again. Can become: `proven`, `leaving`.
    case probation
    /// Half closed after silence, or NBD_ESHUTDOWN has come: nothing, but late replies count. It is about to be lost.
    case leaving
  }

  let id: LinkID
  let server: ServerLimits
  /// On the ledger's own count.
  let joined: UInt64
  var standing: Standing
  var isWritable = true
  /// As it was said last.
  var isSilent = false
  /// In the order of sending.
  var inFlight = SlotList()
  /// Payload of what is in flight, both ways, in bytes.
  var bytes = 0
  /// READs in flight of at least `RelayLedger.longRead` bytes.
  var longReads = 0
  /// Writes, trims and zeroes in flight.
  var modifying = 0
  /// Of those, answered with NBD_ESHUTDOWN: they stay until the link is lost.
  var turnedAway = 0

  /// At least one block, whatever a server says.
  var maximumPayload: UInt32 { max(server.maximumPayload, 512) }
}
