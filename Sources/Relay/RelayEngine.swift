import CLinuxNBD
import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel

/// What runs on a relay's thread: waits in poll(2), moves bytes, and does what the ledger decides.
///
/// A struct that lives on its thread's stack, so that no access to its state is counted, locked or checked. One turn of
/// the loop takes what the sockets have, then lets the ledger say what goes out, and sends it at once; poll is asked for
/// room only where it did not fit.
struct RelayEngine: ~Copyable {
  let mailbox: Mailbox
  let counters: RelayCounters
  let onEvent: @Sendable (RelayEvent) -> Void
  var settings: RelaySettings

  var ledger: RelayLedger
  let segments = SegmentPool()
  var kernel = KernelSide()
  var links: [UnsafeMutablePointer<ServerLink>] = []
  var lastLink: LinkID = 0
  /// How long a socket rests for which the system had no memory, in nanoseconds.
  static let memoryPause: UInt64 = 10_000_000

  /// Monotonic nanoseconds, taken once for each turn.
  var now: UInt64 = 0
  var nextTick: UInt64 = 0
  /// Something is idle that may be given back at one of the next ticks.
  var hasIdleMemory = false
  var alarm: Alarm
  var polled = PollSet()

  var change = ServerChange.none
  /// Since when I/O has been held; 0: it flows, or there never was a link.
  var heldSince: UInt64 = 0
  /// In bytes, of the segments, at that time.
  var usedWhenHeld = 0
  /// In bytes, of the budget.
  var borrowed = 0
  /// Replies take time before they can be passed on.
  var decryptsReplies = false
  /// Links that are ending or leaving.
  var goingCount = 0
  /// At the last tick nothing was under way.
  var wasIdle = false
  var isEnding = false
  /// To be told once the answers have been sent.
  var whoGaveUp: [CheckedContinuation<Void, Never>] = []
  var whoEnded: [CheckedContinuation<Remainder, Never>] = []
  /// What a former process has left, until it is spent.
  var inherited: Legacy?
  var fence: Fence
  /// The name under which the next process is to find what is left, where there will be one.
  var heir: String?

  init(
    _ mailbox: Mailbox, _ counters: RelayCounters, _ settings: RelaySettings,
    inheriting legacy: Legacy?, after former: FormerLinks?,
    onEvent: @escaping @Sendable (RelayEvent) -> Void
  ) {
    self.mailbox = mailbox
    alarm = Alarm(mailbox.bell)
    self.counters = counters
    self.settings = settings
    self.onEvent = onEvent
    ledger = RelayLedger(LedgerLimits(unflushedBytes: 0))
    fence = Fence(former)
    applyLimits()
    inherited = legacy
  }

  /// Returns when `end` was asked for.
  mutating func run() {
    now = monotonicNanoseconds()
    inherit()
    if fence.isUp { ledger.fence() }
    nextTick = now + tickInterval
    while !isEnding {
      wait()
      now = monotonicNanoseconds()
      if polled.isReadable(PollSet.bell) {
        alarm.clear()
        obey()
      }
      if fence.isUp { watchFence() }
      if decryptsReplies {
        receiveFromKernel()
        sendRequests()
        receiveFromLinks()
      } else {
        receiveFromLinks()
        receiveFromKernel()
      }
      settle()
      if now >= nextTick { tick() }
    }
    closeAll()
  }

  /// Sleeps until there is something to do, or time to look at the clock.
  private mutating func wait() {
    removeGoneLinks()
    var wake = UInt64.max
    let kernelRests = kernel.restsUntil > now
    if kernelRests { wake = kernel.restsUntil }
    var canSleep = kernelRests || !kernel.mayHaveMore
    polled.begin(bell: mailbox.bell.number)
    polled.setKernel(
      kernel.descriptor, reads: !kernelRests && mayReadKernel, writes: !kernelRests && kernel.hasOutput)
    for link in links {
      let rests = link.pointee.restsUntil > now
      // Replies that wait for room towards the kernel wait for the kernel, whatever else comes on the link.
      let reads = !rests && !link.pointee.owesKernel && (!link.pointee.hasUnparsed || kernel.hasRoom)
      let writes = !rests && (!link.pointee.output.isEmpty || link.pointee.transport?.wantsToWrite ?? false)
      wake = min(wake, link.pointee.deadline, rests ? link.pointee.restsUntil : .max)
      link.pointee.pollIndex = polled.add(link.pointee.descriptor, reads: reads, writes: writes)
      if reads, link.pointee.hasMoreInput || link.pointee.hasUnparsed { canSleep = false }
    }
    if fence.isUp {
      fence.poll(&polled)
      wake = min(wake, fence.deadline(settings.fenceTimeout))
    }
    // Where nothing is to be looked after it is never: an idle device does not wake.
    wake = min(wake, needsTick ? nextTick : .max, change.deadline)
    if wake <= now { canSleep = false }
    if canSleep, alarm.set(by: wake) { mailbox.ringAgain() }
    polled.poll(canSleep: canSleep)
  }

  /// Before replies are taken: the server has something to do while they are decrypted and passed on. In clear the other
  /// order is the quicker one, as what the kernel asks next often goes out in the same turn.
  private mutating func sendRequests() {
    spendInheritance()
    _ = transmit()
  }

  /// Does what the ledger asks for until it has no wish left.
  mutating func settle() {
    while true {
      spendInheritance()
      reportEvents()
      releasePayloads()
      answerKernel()
      let didTransmit = transmit()
      let didParse = kernel.hasUnparsed && parseRequests()
      if !didTransmit && !didParse { break }
    }
    sendToKernel()
    endLinks()
    finishChange()
    tellWhoGaveUp()
    borrow()
    noteHolding()
    publish()
  }

  private mutating func reportEvents() {
    while let event = ledger.nextEvent() {
      switch event {
      case .recovered(let resent, let replayed, let bytes):
        counters.add(UInt64(clamping: replayed), to: .replayed)
        counters.add(UInt64(clamping: bytes), to: .replayedBytes)
        onEvent(.recovered(resent: resent, replayed: replayed, replayedBytes: bytes))
      case .resent(let count): counters.add(UInt64(clamping: count), to: .resent)
      case .dataLost(let range): onEvent(.dataLost(range))
      case .flushFailed(let error): onEvent(.flushFailed(error: error))
      case .stalled(let since):
        onEvent(.stalled(seconds: Int((now > since ? now - since : 0) / 1_000_000_000)))
      case .unstalled: onEvent(.flowing)
      case .silent(let link): onEvent(.silent(link))
      case .speaking(let link): onEvent(.speaking(link))
      }
    }
  }

  @inline(__always)
  private mutating func releasePayloads() {
    while let payload = ledger.nextReleased() { segments.release(payload.segment) }
  }

  @inline(__always)
  func publish() {
    let unflushed = ledger.unflushed
    counters.set(.queueDepth, kernel.pending.count)
    counters.set(.split, ledger.splitCount)
    counters.set(.unflushedEntries, unflushed.entries)
    counters.set(.unflushedBytes, unflushed.bytes)
  }

  private mutating func tellWhoGaveUp() {
    guard !whoGaveUp.isEmpty else { return }
    for caller in whoGaveUp { caller.resume() }
    whoGaveUp.removeAll()
  }

  private mutating func closeAll() {
    tellWhoGaveUp()
    ledger.end()
    reportEvents()
    let remainder = leave()
    for link in links {
      if link.pointee.standing == .up { sayGoodbye(link) }
      link.pointee.free(segments)
      link.deallocate()
    }
    links = []
    counters.set(.links, 0)
    kernel.close(segments)
    settings.budget.giveBack(borrowed)
    borrowed = 0
    abandonChange(.ended)
    for command in mailbox.close() { command.refuse() }
    for caller in whoEnded { caller.resume(returning: remainder) }
    polled.free()
  }
}

let tickInterval: UInt64 = 1_000_000_000

func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
