/// Families of metrics as OpenMetrics text, in the order in which they are added.
struct Exposition {
  enum FamilyType: String {
    case gauge
    case counter
    case histogram
    case info
  }

  private(set) var text = ""
  private var name = ""

  /// Adds a family with what `samples` adds to it; a name with a unit ends with it. Nothing where it adds none.
  mutating func family(
    _ name: String, _ type: FamilyType, unit: String? = nil, help: String, _ samples: (inout Exposition) -> Void
  ) {
    var body = Exposition()
    body.name = name
    samples(&body)
    guard !body.text.isEmpty else { return }
    text += "# TYPE \(name) \(type.rawValue)\n"
    if let unit { text += "# UNIT \(name) \(unit)\n" }
    text += "# HELP \(name) \(Exposition.escaped(help))\n" + body.text
  }

  mutating func sample(suffix: String = "", _ labels: [(String, String)], _ value: Double) {
    let list = labels.map { "\($0)=\"\(Exposition.escaped($1))\"" }.joined(separator: ",")
    text += "\(name)\(suffix)\(list.isEmpty ? "" : "{\(list)}") \(Exposition.number(value))\n"
  }

  /// Whole where it is, without an exponent where it is not too small.
  static func number(_ value: Double) -> String {
    guard value.isFinite else { return value.isNaN ? "NaN" : value < 0 ? "-Inf" : "+Inf" }
    return value == value.rounded() && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
  }

  private static func escaped(_ text: String) -> String {
    var escaped = ""
    for character in text.unicodeScalars {
      switch character {
      case "\\": escaped += "\\\\"
      case "\"": escaped += "\\\""
      case "\n": escaped += "\\n"
      default: escaped.unicodeScalars.append(character)
      }
    }
    return escaped
  }
}
