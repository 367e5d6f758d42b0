/// A parameter of a call or of an error, as far as our methods and errors tell values apart.
enum VarlinkValue: Equatable {
  case null
  case string(String)
  case strings([String])
  case bool(Bool)
  case int(Int64)
  case other

  var string: String? { if case .string(let value) = self { value } else { nil } }
  var strings: [String]? { if case .strings(let value) = self { value } else { nil } }
}

extension VarlinkValue: Codable {
  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int64.self) {
      self = .int(value)
    } else if let value = try? container.decode([String].self) {
      self = .strings(value)
    } else {
      self = .other
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null, .other: try container.encodeNil()
    case .string(let value): try container.encode(value)
    case .strings(let value): try container.encode(value)
    case .bool(let value): try container.encode(value)
    case .int(let value): try container.encode(value)
    }
  }
}
