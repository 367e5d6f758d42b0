import FoundationEssentials

/// One call of a method, as a client sends it.
struct VarlinkCall: Equatable {
  /// Interface and method: `org.nbdattach.Status`.
  var method: String
  var parameters: [String: VarlinkValue]
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
    var parameters: [String: VarlinkValue]?
    var oneway: Bool?
    var more: Bool?
    var upgrade: Bool?
  }
}

extension VarlinkCall {
  /// Refuses every parameter that is not among `names`.
  func expect(_ names: Set<String>) throws(VarlinkError) {
    if let unknown = parameters.keys.filter({ !names.contains($0) }).min() { throw .invalidParameter(unknown) }
  }

  /// `nil`: absent or null.
  func string(_ name: String) throws(VarlinkError) -> String? {
    switch parameters[name] ?? .null {
    case .null: nil
    case .string(let value): value
    case .strings, .bool, .int, .other: throw .invalidParameter(name)
    }
  }

  /// `nil`: absent or null.
  func bool(_ name: String) throws(VarlinkError) -> Bool? {
    switch parameters[name] ?? .null {
    case .null: nil
    case .bool(let value): value
    case .string, .strings, .int, .other: throw .invalidParameter(name)
    }
  }

  /// Not negative; `nil`: absent or null.
  func milliseconds(_ name: String) throws(VarlinkError) -> Duration? {
    switch parameters[name] ?? .null {
    case .null: return nil
    case .int(let value) where value >= 0: return .milliseconds(value)
    case .int, .string, .strings, .bool, .other: throw .invalidParameter(name)
    }
  }

  /// The value of a parameter that must be there.
  func required<Value>(_ name: String, _ value: Value?) throws(VarlinkError) -> Value {
    guard let value else { throw .invalidParameter(name) }
    return value
  }
}
