/// What kind of event a journal entry tells of: 128 bits in hexadecimal, fixed for ever.
///
/// `packaging/nbdattach.catalog` explains each to `journalctl -x`; a test keeps the two the same.
package enum MessageID: String, CaseIterable, Sendable {
  /// An attachment was stopped.
  case stopped = "8efd56718be347c0b771fea24aa99983"
  /// A first try, or one after a pause, began.
  case connecting = "d499e50d96dd4eeea2320cf368557f2b"
  /// Every link is up.
  case attached = "f4e2fe41b0cb461c98c2a65029d70fda"
  /// Some of several links were lost.
  case degraded = "60e7e8056ff340569fd826f931ec3550"
  /// The last link was lost; I/O is held where the kernel interface can hold it.
  case reconnecting = "ce207684c29847dfb4ca9e245cc2fa05"
  /// A try failed; the next one is due at a known time.
  case waiting = "4b75ee520246425c94b398d4424cfe77"
  /// The device is being let go.
  case detaching = "1beafcbe7fc74c9a9fda42719fc010d8"
  /// It can't succeed without a change: retried slowly.
  case failed = "ba29ff23e7d54564a9a6121679250598"
  /// The configuration was read and is in force.
  case configurationLoaded = "20c53a3b784b4791b6683e73939cf584"
  /// The configuration has errors; the former one stays in force.
  case configurationRejected = "66e6d03f9ad844ccba7ca34737a2fc2c"
  /// At the end a device was in use and was left to the kernel.
  case leftInUse = "7cf7d23d548d40028f1a94b482294a5d"
  /// A request has waited long for its answer, or goes on again.
  case stalled = "0b3dff46cba14a3c8f0c1c6a8c2f6d55"
  /// A server has lost writes that it had acknowledged, or may have.
  case dataLost = "5f6d9d2f1e0b4cb5a4b7b6bd6a36c3e7"
  /// The links lead to another server.
  case serverChanged = "c1de0c3d34ab4f5c8e4b27fd3b8c40a9"
  /// After an outage requests and acknowledged writes were sent again.
  case recovered = "9a7e4cb6d0a54d54a61d6f2cf2f3a1be"

  /// The event of entering the state of this name (`AttachmentReport.State`); `nil` for any other name.
  package init?(stateNamed name: String) {
    guard let found = MessageID.allCases.first(where: { "\($0)" == name }), MessageID.states.contains(found) else {
      return nil
    }
    self = found
  }

  private static let states: Set<MessageID> = [
    .stopped, .connecting, .attached, .degraded, .reconnecting, .waiting, .detaching, .failed,
  ]
}
