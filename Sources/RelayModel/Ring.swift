/// A queue that allocates only when it has never been so full.
struct Ring<Element> {
  /// A power of two long, or empty.
  private var elements: [Element?] = []
  private var first = 0
  private(set) var count = 0

  var isEmpty: Bool { count == 0 }

  mutating func append(_ element: Element) {
    if count == elements.count { grow() }
    elements[(first + count) & (elements.count - 1)] = element
    count += 1
  }

  mutating func popFirst() -> Element? {
    guard count > 0 else { return nil }
    let element = elements[first]
    elements[first] = nil
    first = (first + 1) & (elements.count - 1)
    count -= 1
    return element
  }

  mutating func removeAll() {
    while popFirst() != nil {}
  }

  private mutating func grow() {
    var grown: [Element?] = []
    grown.reserveCapacity(max(8, elements.count * 2))
    for index in 0..<count { grown.append(elements[(first + index) & (elements.count - 1)]) }
    grown.append(contentsOf: repeatElement(nil, count: max(8, elements.count * 2) - count))
    elements = grown
    first = 0
  }
}
