import NBDProtocol
import Synchronization

/// Where the relay's thread counts.
///
/// Concurrency model: written by the relay's thread alone, so that an addition is a load and a store; read from anywhere.
final class RelayCounters: Sendable {
  /// One cell each; the latency histogram follows the last.
  enum Cell: Int {
    // Three for each kind, in the order of RelayStatistics.Requests.
    case reads = 0
    case writes = 3
    case flushes = 6
    case trims = 9
    case resent = 12
    case replayed
    case replayedBytes
    case split
    case linksLost
    case held
    case longest
    case links
    case queueDepth
    case unflushedEntries
    case unflushedBytes
    case memory
    case latency
  }

  static let latencyBuckets = 32
  private static let count = Cell.latency.rawValue + latencyBuckets

  /// Never changed after init; the cells are atomic.
  private nonisolated(unsafe) let cells: UnsafeMutablePointer<Atomic<UInt64>>

  init() {
    cells = .allocate(capacity: RelayCounters.count)
    for index in 0..<RelayCounters.count { (cells + index).initialize(to: Atomic(0)) }
  }

  deinit {
    cells.deinitialize(count: RelayCounters.count)
    cells.deallocate()
  }

  @inline(__always)
  private func add(_ amount: UInt64, at index: Int) {
    let cell = cells + index
    cell.pointee.store(cell.pointee.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }

  @inline(__always)
  func add(_ amount: UInt64 = 1, to cell: Cell) { add(amount, at: cell.rawValue) }

  @inline(__always)
  func set(_ cell: Cell, _ value: Int) {
    cells[cell.rawValue].store(UInt64(truncatingIfNeeded: value), ordering: .relaxed)
  }

  static func kind(of command: CommandCode) -> Cell {
    switch command {
    case .read: .reads
    case .write: .writes
    case .flush: .flushes
    default: .trims
    }
  }

  /// An answered request; `kind` is the first of its three cells.
  @inline(__always)
  func answered(_ kind: Int, bytes: UInt32, failed: Bool, nanoseconds: UInt64) {
    add(1, at: kind)
    if failed { add(1, at: kind + 2) } else { add(UInt64(bytes), at: kind + 1) }
    let bucket = 64 - (nanoseconds / 1000).leadingZeroBitCount
    add(1, at: Cell.latency.rawValue + min(bucket, RelayCounters.latencyBuckets - 1))
    let longest = cells + Cell.longest.rawValue
    if nanoseconds > longest.pointee.load(ordering: .relaxed) { longest.pointee.store(nanoseconds, ordering: .relaxed) }
  }

  private func value(at index: Int) -> UInt64 { cells[index].load(ordering: .relaxed) }
  private func value(_ cell: Cell) -> UInt64 { value(at: cell.rawValue) }
  private func number(_ cell: Cell) -> Int { Int(truncatingIfNeeded: value(cell)) }

  private func requests(_ kind: Cell) -> RelayStatistics.Requests {
    var requests = RelayStatistics.Requests()
    requests.count = value(at: kind.rawValue)
    requests.bytes = value(at: kind.rawValue + 1)
    requests.errors = value(at: kind.rawValue + 2)
    return requests
  }

  var linkCount: Int { number(.links) }

  func snapshot() -> RelayStatistics {
    var statistics = RelayStatistics()
    statistics.reads = requests(.reads)
    statistics.writes = requests(.writes)
    statistics.flushes = requests(.flushes)
    statistics.trims = requests(.trims)
    statistics.resent = value(.resent)
    statistics.replayed = value(.replayed)
    statistics.replayedBytes = value(.replayedBytes)
    statistics.split = value(.split)
    statistics.linksLost = value(.linksLost)
    statistics.latency = (0..<RelayCounters.latencyBuckets).map { value(at: Cell.latency.rawValue + $0) }
    statistics.heldNanoseconds = value(.held)
    statistics.longestNanoseconds = value(.longest)
    statistics.links = number(.links)
    statistics.queueDepth = number(.queueDepth)
    statistics.unflushedEntries = number(.unflushedEntries)
    statistics.unflushedBytes = number(.unflushedBytes)
    statistics.memory = number(.memory)
    return statistics
  }
}
