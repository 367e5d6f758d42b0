/// Finds the word that somebody meant.
package enum Spelling {
  /// The candidate nearest to `word` by edit distance, case aside; `nil` when none is near enough to be a slip.
  ///
  /// Words of more than 64 bytes are nobody's slip, so the cost is bounded.
  package static func closest(to word: String, among candidates: [String]) -> String? {
    let wanted = Array(word.lowercased().utf8)
    guard !wanted.isEmpty, wanted.count <= 64 else { return nil }
    var best: (word: String, distance: Int)?
    for candidate in candidates {
      let other = Array(candidate.lowercased().utf8)
      let bound = max(1, max(wanted.count, other.count) / 3)
      let distance = editDistance(wanted, other)
      if distance <= bound, distance < best?.distance ?? .max { best = (candidate, distance) }
    }
    return best?.word
  }

  /// Insertions, removals, replacements and swaps of neighbours that turn one word into the other.
  private static func editDistance(_ left: [UInt8], _ right: [UInt8]) -> Int {
    var beforePrevious: [Int] = []
    var previous = Array(0...right.count)
    for (i, a) in left.enumerated() {
      var current = [i + 1]
      for (j, b) in right.enumerated() {
        var distance = min(previous[j + 1] + 1, current[j] + 1, previous[j] + (a == b ? 0 : 1))
        if i > 0, j > 0, a == right[j - 1], left[i - 1] == b { distance = min(distance, beforePrevious[j - 1] + 1) }
        current.append(distance)
      }
      beforePrevious = previous
      previous = current
    }
    return previous.last ?? 0
  }
}
