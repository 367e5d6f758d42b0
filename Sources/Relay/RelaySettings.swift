/// What an operator can choose of a relay; may change while it runs.
package struct RelaySettings: Sendable {
  /// Acknowledged and unflushed writes that are kept for a replay, in bytes of payload; 0: none.
  package var unflushedLimit: Int
  /// A request without an answer for that long makes its link silent; `nil`: never.
  package var requestTimeout: Duration?
  /// How long a superseded link may still answer its writes before they are sent elsewhere; `nil`: until it is closed.
  package var fenceTimeout: Duration?
  /// What all relays of the process may keep together.
  package var budget: RelayBudget

  package init(
    unflushedLimit: Int = 64 << 20, requestTimeout: Duration? = nil, fenceTimeout: Duration? = nil,
    budget: RelayBudget = RelayBudget(bytes: 256 << 20)
  ) {
    self.unflushedLimit = unflushedLimit
    self.requestTimeout = requestTimeout
    self.fenceTimeout = fenceTimeout
    self.budget = budget
  }
}
