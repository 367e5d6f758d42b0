/// Bytes of a stream until they make a message; messages end with a NUL (varlink.org, "Transport").
struct MessageBuffer {
  /// In bytes, without the NUL.
  let messageLimit: Int
  private var bytes: [UInt8] = []
  /// Up to here no NUL was found, so that a message that comes byte by byte costs no more than one that does not.
  private var searched = 0

  init(messageLimit: Int) { self.messageLimit = messageLimit }

  /// Whether a part of a message is waiting for the rest.
  var isPartial: Bool { !bytes.isEmpty }

  mutating func append(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }

  enum Next: Equatable {
    case message([UInt8])
    case incomplete
    /// Longer than the limit, whether it is complete or not.
    case tooLong
  }

  /// Takes the next message out.
  mutating func next() -> Next {
    guard let end = bytes[searched...].firstIndex(of: 0) else {
      searched = bytes.count
      return searched > messageLimit ? .tooLong : .incomplete
    }
    if end > messageLimit { return .tooLong }
    let message = Array(bytes[..<end])
    bytes.removeSubrange(...end)
    searched = 0
    return .message(message)
  }
}
