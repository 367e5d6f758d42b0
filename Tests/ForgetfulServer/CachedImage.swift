/// A disk behind a cache that a crash empties: what a client sees, what is safe, and which blocks differ.
package struct CachedImage: Sendable {
  /// The cache holds whole blocks of this many bytes; an image ends with a shorter one where its size is no multiple.
  package let blockSize: Int
  /// What a read answers.
  package private(set) var visible: [UInt8]
  /// What is left after a crash.
  package private(set) var durable: [UInt8]
  /// How often the image has been changed; a mark for `flush`.
  package private(set) var changes: UInt64 = 0
  /// For each block the first change that is not durable, 0 for none.
  private var unsafeSince: [UInt64]
  /// For each block who changed it last.
  private var writers: [Int]
  /// How many blocks would be lost in a crash now.
  package private(set) var unsafeBlockCount = 0

  /// All zeroes.
  package init(size: Int, blockSize: Int = 512) {
    self.blockSize = blockSize
    visible = [UInt8](repeating: 0, count: size)
    durable = visible
    let blockCount = (size + blockSize - 1) / blockSize
    unsafeSince = [UInt64](repeating: 0, count: blockCount)
    writers = [Int](repeating: 0, count: blockCount)
  }

  /// The callers see to it that the bytes are within the image.
  mutating func write(_ bytes: some Collection<UInt8>, at offset: Int, by writer: Int) {
    visible.replaceSubrange(offset..<offset + bytes.count, with: bytes)
    changes += 1
    for block in blocks(of: offset..<offset + bytes.count) {
      writers[block] = writer
      guard unsafeSince[block] == 0 else { continue }
      unsafeSince[block] = changes
      unsafeBlockCount += 1
    }
  }

  /// Makes the blocks durable that the bytes lie in.
  mutating func persist(_ range: Range<Int>) {
    for block in blocks(of: range) { writeBack(block) }
  }

  /// Makes durable what has a change that is no later than `mark`, and nothing else: what one writer (or all, for `nil`)
  /// changed last.
  mutating func flush(upTo mark: UInt64, by writer: Int?) {
    guard unsafeBlockCount > 0 else { return }
    for block in unsafeSince.indices where unsafeSince[block] != 0 && unsafeSince[block] <= mark {
      if writer == nil || writers[block] == writer { writeBack(block) }
    }
  }

  /// Makes one unsafe block durable, as a cache does that is full; which one is chance.
  mutating func writeBackOne(using random: inout some RandomNumberGenerator) {
    guard unsafeBlockCount > 0 else { return }
    var block = Int.random(in: unsafeSince.indices, using: &random)
    while unsafeSince[block] == 0 { block = (block + 1) % unsafeSince.count }
    writeBack(block)
  }

  /// Loses what is not durable, but each block with the chance `survival` (0…1).
  mutating func crash(survival: Double, using random: inout some RandomNumberGenerator) {
    for block in unsafeSince.indices where unsafeSince[block] != 0 {
      if survival > 0, Double.random(in: 0..<1, using: &random) < survival { writeBack(block) }
      unsafeSince[block] = 0
    }
    visible = durable
    unsafeBlockCount = 0
  }

  private mutating func writeBack(_ block: Int) {
    guard unsafeSince[block] != 0 else { return }
    let bytes = block * blockSize..<min((block + 1) * blockSize, visible.count)
    durable.replaceSubrange(bytes, with: visible[bytes])
    unsafeSince[block] = 0
    unsafeBlockCount -= 1
  }

  private func blocks(of range: Range<Int>) -> Range<Int> {
    range.isEmpty ? 0..<0 : range.lowerBound / blockSize..<(range.upperBound - 1) / blockSize + 1
  }
}

/// Chance that a seed repeats (SplitMix64).
package struct SeededRandom: RandomNumberGenerator, Sendable {
  private var state: UInt64

  package init(seed: UInt64) { state = seed }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
