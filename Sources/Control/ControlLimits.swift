/// What the control socket's clients may cost the daemon.
package struct ControlLimits: Sendable {
  /// A call's length, in bytes.
  package var callLength = 64 << 10
  /// Connections of all users but the privileged one.
  package var connections = 64
  /// Connections of any one of them.
  package var connectionsPerUser = 16
  /// This user's connections are not counted, and this user alone may change things; the superuser.
  package var privilegedUser: UInt32? = 0
  /// How long a connection may stand without a call.
  package var idle: Duration = .seconds(60)
  /// From a call's first byte to its last.
  package var receiving: Duration = .seconds(5)
  /// From a complete call to its answer; a change is answered when it is done, or its client gone.
  package var answering: Duration = .seconds(10)
  /// From an answer's first byte to its last.
  package var sending: Duration = .seconds(10)

  package init() {}

  /// Whether one more connection of `user` may stand beside those of `others`.
  func admit(user: UInt32, others: some Sequence<UInt32>) -> Bool {
    if user == privilegedUser { return true }
    let counted = others.filter { $0 != privilegedUser }
    return counted.count < connections && counted.count { $0 == user } < connectionsPerUser
  }
}
