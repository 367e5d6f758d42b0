extension RelayLedger {
  /// Writes, trims or zeroes are out on that link to which no reply has come, NBD_ESHUTDOWN neither.
  package func awaitsWrites(on id: LinkID) -> Bool {
    linkIndex(id).map { links[$0].modifying > links[$0].turnedAway } ?? false
  }
}
