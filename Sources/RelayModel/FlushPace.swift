/// Whether FLUSHes are so quick on this server that they may come early, when the log has only a little.
///
/// A short log is memory that is still in the processor's cache when it is used again. But each FLUSH makes a server with
/// a disk work, and such a one is to be asked seldom. So what a FLUSH of our own costs is measured: how much longer it
/// took than the writes beside it, which have the same way and the same queue before them. Only while that is little
/// against the time in which `earlyBytes` arrive, time after time, FLUSHes are early.
struct FlushPace {
  /// What the log holds when an early FLUSH goes out, in bytes of payload.
  static let earlyBytes = 8 << 20
  /// The same in entries.
  static let earlyEntries = 2048
  /// A FLUSH is cheap when it costs at most this part of the time in which as much arrives as an early one covers.
  private static let cheapPart: UInt64 = 50
  /// Cheap ones in a row after which they are early.
  private static let trust = 4
  /// No more than this is remembered for a server, so that it is soon known when its FLUSHes become dear.
  private static let mostTrust = 8

  /// More with each cheap one; a dear one takes half of all that there can be, and a very dear one takes all.
  private var credit = 0
  /// Of writes that were acknowledged since a FLUSH of our own was sent.
  private var writes: UInt64 = 0
  /// How long all of them took together, in nanoseconds.
  private var writing: UInt64 = 0
  /// What the FLUSH that is out may cost, in nanoseconds; `nil`: it says nothing, as it covers too little.
  private var allowance: UInt64?
  /// How long writes took before it was sent, on the average, in nanoseconds.
  private var usual: UInt64 = 0

  var isEarly: Bool { credit >= FlushPace.trust }

  @inline(__always)
  mutating func wrote(in nanoseconds: UInt64) {
    writes &+= 1
    writing &+= nanoseconds
  }

  /// A FLUSH of our own goes out that covers so much, of which the oldest was acknowledged `filling` nanoseconds ago.
  mutating func flushSent(bytes: Int, entries: Int, filling: UInt64) {
    let times = max(bytes / FlushPace.earlyBytes, entries / FlushPace.earlyEntries)
    allowance = times > 0 ? filling / UInt64(times) / FlushPace.cheapPart : nil
    usual = writes > 0 ? writing / writes : 0
    writes = 0
    writing = 0
  }

  /// It has succeeded, so many nanoseconds after it was sent.
  mutating func flushed(in nanoseconds: UInt64) {
    guard let allowance else { return }
    self.allowance = nil
    let cost = nanoseconds > usual ? nanoseconds - usual : 0
    switch cost {
    case ...allowance: credit = min(credit + 1, FlushPace.mostTrust)
    case ...(allowance * 8): credit = max(credit - FlushPace.mostTrust / 2, 0)
    default: credit = 0
    }
  }

  /// Another server, or a FLUSH that failed.
  mutating func forget() { self = FlushPace() }
}
