import CYAML

/// libyaml's event parser over one text. Owns the parser and its input, and frees both.
final class YAMLEvents {
  struct Event {
    enum Kind {
      case streamStart
      case streamEnd
      case documentStart
      case documentEnd
      case alias(String)
      case scalar(String, YAMLNode.Style)
      case sequenceStart
      case sequenceEnd
      case mappingStart
      case mappingEnd
    }

    var kind: Kind
    /// `&name` before the value.
    var anchor: String?
    /// `!tag` before the value.
    var tag: String?
    var start: YAMLMark
    var end: YAMLMark
  }

  /// What libyaml says of a text that is no YAML, in its own words.
  struct SyntaxError: Error {
    var problem: String
    var mark: YAMLMark
    var context: String
    var contextMark: YAMLMark?
  }

  // On the heap, because libyaml keeps pointers to the parser and to the input.
  private let parser: UnsafeMutablePointer<yaml_parser_t>
  private let input: UnsafeMutableBufferPointer<UInt8>

  /// `nil` when there is no memory for it.
  init?(_ bytes: [UInt8]) {
    parser = .allocate(capacity: 1)
    input = .allocate(capacity: bytes.count)
    _ = input.initialize(from: bytes)
    guard yaml_parser_initialize(parser) == 1 else {
      // `deinit` does not run for what was never initialized.
      input.deallocate()
      parser.deallocate()
      return nil
    }
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    yaml_parser_set_input_string(parser, input.baseAddress, input.count)
  }

  deinit {
    yaml_parser_delete(parser)
    parser.deallocate()
    input.deallocate()
  }

  /// The next event; after `streamEnd` and after an error nothing more may be asked for.
  func next() throws(SyntaxError) -> Event {
    var event = yaml_event_t()
    guard yaml_parser_parse(parser, &event) == 1 else { throw syntaxError() }
    defer { yaml_event_delete(&event) }
    var result = Event(kind: .streamEnd, start: YAMLMark(event.start_mark), end: YAMLMark(event.end_mark))
    switch event.type {
    case YAML_STREAM_START_EVENT:
      result.kind = .streamStart
    case YAML_DOCUMENT_START_EVENT:
      result.kind = .documentStart
    case YAML_DOCUMENT_END_EVENT:
      result.kind = .documentEnd
    case YAML_ALIAS_EVENT:
      result.kind = .alias(text(event.data.alias.anchor) ?? "")
    case YAML_SCALAR_EVENT:
      let scalar = event.data.scalar
      let value = String(decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
      result.kind = .scalar(value, YAMLNode.Style(scalar.style))
      result.anchor = text(scalar.anchor)
      result.tag = text(scalar.tag)
    case YAML_SEQUENCE_START_EVENT:
      result.kind = .sequenceStart
      result.anchor = text(event.data.sequence_start.anchor)
      result.tag = text(event.data.sequence_start.tag)
    case YAML_SEQUENCE_END_EVENT:
      result.kind = .sequenceEnd
    case YAML_MAPPING_START_EVENT:
      result.kind = .mappingStart
      result.anchor = text(event.data.mapping_start.anchor)
      result.tag = text(event.data.mapping_start.tag)
    case YAML_MAPPING_END_EVENT:
      result.kind = .mappingEnd
    default:
      result.kind = .streamEnd
    }
    return result
  }

  private func syntaxError() -> SyntaxError {
    let state = parser.pointee
    return SyntaxError(
      problem: state.problem.map { String(cString: $0) } ?? "out of memory",
      // The reader's errors come without a mark.
      mark: YAMLMark(state.error == YAML_READER_ERROR ? state.mark : state.problem_mark),
      context: state.context.map { String(cString: $0) } ?? "",
      contextMark: state.context == nil ? nil : YAMLMark(state.context_mark))
  }

  private func text(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
    pointer.map { String(cString: $0) }
  }
}

extension YAMLMark {
  fileprivate init(_ mark: yaml_mark_t) {
    self.init(line: Int(clamping: mark.line) &+ 1, column: Int(clamping: mark.column) &+ 1)
  }
}

extension YAMLNode.Style {
  fileprivate init(_ style: yaml_scalar_style_t) {
    switch style {
    case YAML_SINGLE_QUOTED_SCALAR_STYLE, YAML_DOUBLE_QUOTED_SCALAR_STYLE: self = .quoted
    case YAML_LITERAL_SCALAR_STYLE, YAML_FOLDED_SCALAR_STYLE: self = .block
    default: self = .plain
    }
  }
}
