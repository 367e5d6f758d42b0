/// What an attachment's relay has counted since its device was bound by this process.
package struct IOStatistics: Equatable, Sendable {
  /// The answered requests of one kind.
  package struct Requests: Equatable, Sendable {
    package var count: UInt64
    /// Of those that succeeded.
    package var bytes: UInt64
    /// Of `count`, answered with an error.
    package var errors: UInt64

    package init(count: UInt64 = 0, bytes: UInt64 = 0, errors: UInt64 = 0) {
      self.count = count
      self.bytes = bytes
      self.errors = errors
    }
  }

  package var reads = Requests()
  package var writes = Requests()
  package var flushes = Requests()
  /// Trims and zeroes.
  package var trims = Requests()
  /// Requests that were sent once more, because their link was lost.
  package var resent: UInt64 = 0
  /// Acknowledged writes that were sent once more, because their server may have lost them.
  package var replayed: UInt64 = 0
  package var replayedBytes: UInt64 = 0
  /// Requests that were cut to what the server takes.
  package var split: UInt64 = 0
  /// Answered requests by their time: entry n is of those that took less than 2^n microseconds, and not less than the
  /// entry before it says; the last is of all that took longer.
  package var latency: [UInt64] = []
  /// In seconds: how long I/O was held, all outages together.
  package var held: Double = 0
  /// In seconds: the longest time from a request to its answer.
  package var longest: Double = 0
  /// Requests that wait for their answer now.
  package var queueDepth = 0
  /// Acknowledged and not yet flushed, kept to be sent again, in bytes.
  package var unflushed = 0
  /// In bytes.
  package var memory = 0

  package init() {}

  /// In seconds, what the requests of one entry of `latency` took less than.
  package static func bound(ofBucket power: Int) -> Double { Double(UInt64(1) << UInt64(min(max(power, 0), 62))) / 1e6 }
}

/// Acknowledged content of a device that the server has refused to take once more.
package struct DataLoss: Equatable, Sendable, Codable {
  /// In bytes.
  package var offset: UInt64
  /// From the first lost byte to the last, in bytes.
  package var length: UInt64
  /// What the server answered, an errno.
  package var errnoCode: Int32
  /// When, in seconds since the epoch.
  package var time: Double
  /// How many writes are lost.
  package var writes: Int
  /// How many bytes are lost: all of `length`, but where there are so many ranges that this stands for the rest of them.
  package var bytes: UInt64

  /// `bytes`: `nil` where all of `length` is lost.
  package init(
    offset: UInt64, length: UInt64, errnoCode: Int32, time: Double, writes: Int = 1, bytes: UInt64? = nil
  ) {
    self.writes = writes
    self.bytes = bytes ?? length
    self.offset = offset
    self.length = length
    self.errnoCode = errnoCode
    self.time = time
  }
}
