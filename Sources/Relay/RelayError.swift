/// Why the links of a relay could not be replaced.
package enum RelayError: Error, Equatable, Sendable {
  /// `end` was called.
  case ended
  /// Not all requests were answered and flushed in time.
  case notInTime
  /// Another change of this kind, or a drain, is under way.
  case busy
  /// The new links were lost before they took over.
  case linksLost
}
