import NBDProtocol

@testable import RelayModel

/// A block of a disk, by what was written there: 0 is zeroes.
typealias Content = UInt32

/// A server with a cache that it loses when it crashes. It keeps, for each block, all that may be found there after a
/// crash: what is safe, and each later write to the cache.
final class ForgetfulServer {
  static let blockLength: UInt32 = 512

  private struct Version {
    let content: Content
    /// Counts replies.
    let number: Int
    let link: LinkID
  }

  /// The first is safe, the last is what is read.
  private var blocks: [[Version]]
  private var number = 0
  /// Grows with each restart; links to older instances are dead.
  private(set) var instance = 0
  var limits: ServerLimits
  /// Where nothing is kept, a crash would lose what nobody has promised to keep: then it loses nothing.
  var mayForget = true

  init(blocks: Int, _ limits: ServerLimits) {
    self.blocks = Array(repeating: [Version(content: 0, number: 0, link: 0)], count: blocks)
    self.limits = limits
  }

  func content(_ block: Int) -> Content { blocks[block].last?.content ?? 0 }

  /// What may be found in the block after a crash.
  func afterCrash(_ block: Int) -> [Content] { blocks[block].map(\.content) }

  /// A request as the server has got it.
  struct Received {
    let transmission: Transmission
    let contents: [Content]
    /// The replies given before it came.
    let number: Int
  }

  func receive(_ transmission: Transmission, contents: [Content]) -> Received {
    Received(transmission: transmission, contents: contents, number: number)
  }

  /// Carries a request out, and gives what a READ finds.
  func carryOut(_ request: Received, on link: LinkID) -> [Content] {
    let transmission = request.transmission
    let first = Int(transmission.offset / UInt64(Self.blockLength))
    let count = Int(transmission.length / Self.blockLength)
    number += 1
    switch transmission.command {
    case .read: return (first..<first + count).map { content($0) }
    case .write:
      for index in 0..<count { put(request.contents[index], at: first + index, transmission.flags, link) }
    case .writeZeroes, .trim:
      for index in 0..<count { put(0, at: first + index, transmission.flags, link) }
    case .flush: flush(request.number, link)
    default: break
    }
    return []
  }

  /// A write that fails may have been carried out for some blocks.
  func carryOutSome(_ request: Received, on link: LinkID, _ random: inout SeededRandom) {
    guard request.transmission.command == .write else { return }
    let first = Int(request.transmission.offset / UInt64(Self.blockLength))
    for index in request.contents.indices where random.chance(50) {
      put(request.contents[index], at: first + index, [], link)
    }
  }

  private func put(_ content: Content, at block: Int, _ flags: CommandFlags, _ link: LinkID) {
    let version = Version(content: content, number: number, link: link)
    let isSafe = !limits.canFlush || (flags.contains(.fua) && limits.canFUA)
    if isSafe { blocks[block] = [version] } else { blocks[block].append(version) }
  }

  /// Makes safe no more than it must: what was answered before the FLUSH came, and, where links are not said to share
  /// a cache, only what came on the same link.
  private func flush(_ number: Int, _ link: LinkID) {
    for block in blocks.indices {
      let safe = blocks[block].lastIndex {
        $0.number <= number && (limits.canMultiConn || !mayForget || $0.link == link)
      }
      if let safe { blocks[block].removeFirst(safe) }
    }
  }

  /// Each block loses what was not flushed, or some of it.
  func crash(_ random: inout SeededRandom) {
    for block in blocks.indices where blocks[block].count > 1 {
      let kept = random.chance(60) ? 0 : random.below(blocks[block].count)
      blocks[block] = [blocks[block][kept]]
    }
    instance += 1
  }

  /// A restart that loses nothing.
  func restart() { instance += 1 }
}
