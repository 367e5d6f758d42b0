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
    var parameters: [String: VarlinkValue]
  }
}

/// The errors that our service answers with.
enum VarlinkError: Error, Equatable {
  case interfaceNotFound(String)
  case methodNotFound(String)
  case methodNotImplemented(String)
  case invalidParameter(String)
  case permissionDenied
  case action(ActionError)

  var name: String {
    switch self {
    case .interfaceNotFound: "org.varlink.service.InterfaceNotFound"
    case .methodNotFound: "org.varlink.service.MethodNotFound"
    case .methodNotImplemented: "org.varlink.service.MethodNotImplemented"
    case .invalidParameter: "org.varlink.service.InvalidParameter"
    case .permissionDenied: "org.varlink.service.PermissionDenied"
    case .action(let error): error.varlinkName
    }
  }

  var parameters: [String: VarlinkValue] {
    switch self {
    case .interfaceNotFound(let name): ["interface": .string(name)]
    case .methodNotFound(let name), .methodNotImplemented(let name): ["method": .string(name)]
    case .invalidParameter(let name): ["parameter": .string(name)]
    case .permissionDenied: [:]
    case .action(let error): error.varlinkParameters
    }
  }
}
