import AttachmentModel

/// Builds the tree of a file that holds at most one document, within bounds.
///
/// Aliases, anchors and tags are refused: nothing in these files needs them, and without aliases a tree is never
/// larger than its text.
struct YAMLDocument {
  /// Deeper than any key of ours; the parser recurses as deep.
  static let maximumDepth = 16
  /// Some 4,000 attachments with every key there is.
  static let maximumNodes = 200_000

  /// `nil` for a file with nothing but comments in it.
  private(set) var root: YAMLNode?

  /// Reports what is wrong and returns `nil`; the first error ends the reading, because what follows can't be trusted.
  init?(_ source: SourceFile, _ diagnostics: inout Diagnostics) {
    guard let events = YAMLEvents(source.bytes) else {
      diagnostics.report(file: source.path, "out of memory")
      return nil
    }
    var builder = Builder(source: source, events: events)
    do throws(Builder.Stop) {
      root = try builder.document()
    } catch {
      diagnostics.report(at: error.place, error.message, hint: error.hint)
      return nil
    }
  }
}

private struct Builder {
  struct Stop: Error {
    var place: Place
    var message: String
    var hint: String?
  }

  let source: SourceFile
  let events: YAMLEvents
  var nodes = 0

  mutating func document() throws(Stop) -> YAMLNode? {
    var root: YAMLNode?
    var documents = 0
    while true {
      let event = try next()
      switch event.kind {
      case .streamEnd:
        return root
      case .documentStart:
        documents += 1
        guard documents == 1 else {
          throw Stop(
            place: place(event), message: "the file has more than one document",
            hint: "only one is read: remove the line `---`, or write a second file")
        }
      case .streamStart, .documentEnd:
        continue
      case .alias, .scalar, .sequenceStart, .sequenceEnd, .mappingStart, .mappingEnd:
        root = try node(event, depth: 0)
      }
    }
  }

  /// The value that begins with `event`.
  private mutating func node(_ event: YAMLEvents.Event, depth: Int) throws(Stop) -> YAMLNode {
    try checkBounds(event, depth: depth)
    var node = YAMLNode(content: .sequence([]), source: source, start: event.start, end: event.end)
    switch event.kind {
    case .scalar(let text, let style):
      node.content = .scalar(text, style)
    case .sequenceStart:
      var items: [YAMLNode] = []
      while true {
        let item = try next()
        if case .sequenceEnd = item.kind { break }
        items.append(try self.node(item, depth: depth + 1))
      }
      node.content = .sequence(items)
    case .mappingStart:
      var entries: [YAMLNode.Entry] = []
      while true {
        let event = try next()
        if case .mappingEnd = event.kind { break }
        let key = try self.node(event, depth: depth + 1)
        entries.append(YAMLNode.Entry(key: key, value: try self.node(try next(), depth: depth + 1)))
      }
      node.content = .mapping(entries)
    case .alias, .streamStart, .streamEnd, .documentStart, .documentEnd, .sequenceEnd, .mappingEnd:
      throw Stop(place: place(event), message: "the file ends in the middle of a value")
    }
    return node
  }

  private mutating func checkBounds(_ event: YAMLEvents.Event, depth: Int) throws(Stop) {
    if case .alias(let name) = event.kind {
      throw Stop(
        place: place(event), message: "aliases such as \("*\(name)".quoted()) are not read",
        hint: "write the value out, or put what all attachments share under `defaults:` in nbdattachd.yaml")
    }
    if let anchor = event.anchor {
      throw Stop(
        place: place(event), message: "anchors such as \("&\(anchor)".quoted()) are not read",
        hint: "a text that begins with & stands in quotes")
    }
    if let tag = event.tag {
      throw Stop(
        place: place(event), message: "tags such as \(tag.quoted()) are not read",
        hint: "a text that begins with ! stands in quotes")
    }
    guard depth <= YAMLDocument.maximumDepth else {
      throw Stop(place: place(event), message: "values are nested deeper than \(YAMLDocument.maximumDepth) levels")
    }
    nodes += 1
    guard nodes <= YAMLDocument.maximumNodes else {
      throw Stop(
        place: place(event), message: "the file has more than \(YAMLDocument.maximumNodes) keys and values",
        hint: "spread the attachments over several files")
    }
  }

  private func next() throws(Stop) -> YAMLEvents.Event {
    do throws(YAMLEvents.SyntaxError) {
      return try events.next()
    } catch {
      let explained = YAMLExplanation(error, source)
      throw Stop(place: explained.place, message: explained.message, hint: explained.hint)
    }
  }

  private func place(_ event: YAMLEvents.Event) -> Place {
    let length = event.end.line == event.start.line ? max(1, event.end.column - event.start.column) : 1
    return Place(source: source, line: event.start.line, column: event.start.column, length: length)
  }
}
