import FoundationEssentials

/// One call of a method, as a client sends it.
struct VarlinkCall: Equatable {
  /// Interface and method: `org.nbdattach.Status`.
  var method: String
  var parameters: [String: VarlinkParameter]
  /// No answer is wanted, not even an error.
  var isOneway: Bool
  /// The connection shall speak another protocol after the answer.
  var isUpgrade: Bool

  /// `nil`: not a call. What follows on the connection can't be trusted then.
  ///
  /// The decoder bounds nesting (at 512), and nothing here recurses.
  init?(_ message: some Sequence<UInt8>) {
    guard let envelope = try? JSONDecoder().decode(Envelope.self, from: Data(message)) else { return nil }
    method = envelope.method
    parameters = envelope.parameters ?? [:]
    isOneway = envelope.oneway ?? false
    isUpgrade = envelope.upgrade ?? false
  }

  private struct Envelope: Decodable {
    var method: String
    var parameters: [String: VarlinkParameter]?
    var oneway: Bool?
    var more: Bool?
    var upgrade: Bool?
  }
}

/// The value of a parameter, as far as our methods tell values apart.
enum VarlinkParameter: Equatable, Decodable {
  case null
  case string(String)
  case other

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let string = try? container.decode(String.self) {
      self = .string(string)
    } else {
      self = .other
    }
  }
}
