import FoundationEssentials

/// The answer to a call: its parameters as JSON, and the error's name where it is one.
struct VarlinkReply {
  /// The message without the NUL that ends it.
  let message: [UInt8]

  init(_ parameters: some Encodable) {
    message = VarlinkReply.encode(Success(parameters: parameters))
  }

  init(_ error: VarlinkError) {
    message = VarlinkReply.encode(ErrorReply(error: error.name, parameters: error.parameters))
  }

  private static func encode(_ envelope: some Encodable) -> [UInt8] {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    // Only a number that is not finite can make the encoder fail, and no type of ours has any.
    return (try? encoder.encode(envelope)).map(Array.init) ?? []
  }

  private struct Success<Parameters: Encodable>: Encodable {
    var parameters: Parameters
  }

  private struct ErrorReply: Encodable {
    var error: String
    var parameters: [String: String]
  }
}

/// The errors that our service answers with.
enum VarlinkError: Error, Equatable {
  case interfaceNotFound(String)
  case methodNotFound(String)
  case invalidParameter(String)
  case noSuchAttachment(String)

  var name: String {
    switch self {
    case .interfaceNotFound: "org.varlink.service.InterfaceNotFound"
    case .methodNotFound: "org.varlink.service.MethodNotFound"
    case .invalidParameter: "org.varlink.service.InvalidParameter"
    case .noSuchAttachment: "org.nbdattach.NoSuchAttachment"
    }
  }

  var parameters: [String: String] {
    switch self {
    case .interfaceNotFound(let name): ["interface": name]
    case .methodNotFound(let name): ["method": name]
    case .invalidParameter(let name): ["parameter": name]
    case .noSuchAttachment(let name): ["name": name]
    }
  }
}
