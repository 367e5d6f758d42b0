extension RelayLedger {
  /// Unanswered on one link, with those that were answered with NBD_ESHUTDOWN; 0 for a link that is not there.
  package func inFlight(on id: LinkID) -> Int { linkIndex(id).map { links[$0].inFlight.count } ?? 0 }
}
