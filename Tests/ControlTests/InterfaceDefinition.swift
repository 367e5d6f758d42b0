/// A Varlink interface definition, as far as ours need the language.
struct InterfaceDefinition {
  struct Field: Equatable {
    var name: String
    var isNullable: Bool
    var isArray: Bool
    var type: String
  }

  enum Shape: Equatable {
    case fields([Field])
    case cases([String])
  }

  private(set) var name = ""
  private(set) var types: [String: Shape] = [:]
  private(set) var methods: [String: (input: [Field], output: [Field])] = [:]
  private(set) var errors: [String: [Field]] = [:]

  struct SyntaxError: Error {
    var at: ArraySlice<String>
  }

  private var tokens: ArraySlice<String>

  init(_ text: String) throws {
    tokens = ArraySlice(InterfaceDefinition.tokens(text))
    try expect("interface")
    name = try take()
    while let keyword = tokens.popFirst() {
      let name = try take()
      switch keyword {
      case "type": types[name] = try shape()
      case "error": errors[name] = try fields()
      case "method":
        let input = try fields()
        try expect("->")
        methods[name] = (input, try fields())
      default: throw SyntaxError(at: tokens)
      }
    }
  }

  private static func tokens(_ text: String) -> [String] {
    text.split(separator: "\n").flatMap { line in
      line.prefix { $0 != "#" }.matches(of: /->|\[\]|[(),:?]|[A-Za-z0-9_.\-]+/).map { String($0.output) }
    }
  }

  private mutating func take() throws -> String {
    guard let token = tokens.popFirst() else { throw SyntaxError(at: tokens) }
    return token
  }

  private mutating func expect(_ token: String) throws {
    if try take() != token { throw SyntaxError(at: tokens) }
  }

  private mutating func shape() throws -> Shape {
    if tokens.dropFirst(2).first == ":" { return .fields(try fields()) }
    try expect("(")
    var cases = [try take()]
    while tokens.first == "," {
      try expect(",")
      cases.append(try take())
    }
    try expect(")")
    return .cases(cases)
  }

  private mutating func fields() throws -> [Field] {
    try expect("(")
    var fields: [Field] = []
    while tokens.first != ")" {
      if !fields.isEmpty { try expect(",") }
      let name = try take()
      try expect(":")
      let isNullable = tokens.first == "?"
      if isNullable { tokens.removeFirst() }
      let isArray = tokens.first == "[]"
      if isArray { tokens.removeFirst() }
      fields.append(Field(name: name, isNullable: isNullable, isArray: isArray, type: try take()))
    }
    try expect(")")
    return fields
  }
}
