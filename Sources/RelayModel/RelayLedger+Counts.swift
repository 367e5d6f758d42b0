extension RelayLedger {
  /// In bytes.
  package static let longRead = 32 << 10

  /// Half of what is out on that link, or more, are READs of at least `longRead` bytes.
  package func expectsLongRead(on id: LinkID) -> Bool {
    linkIndex(id).map { links[$0].longReads > 0 && links[$0].longReads * 2 >= links[$0].inFlight.count } ?? false
  }

  /// Writes, trims or zeroes are out on that link to which no reply has come, NBD_ESHUTDOWN neither.
  package func awaitsWrites(on id: LinkID) -> Bool {
    linkIndex(id).map { links[$0].modifying > links[$0].turnedAway } ?? false
  }
}
