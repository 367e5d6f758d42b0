package import LinuxKernel
package import RelayModel

/// Stands between the kernel and the servers of one device: the kernel's socket never breaks, and each request is kept
/// until it is answered, on whatever link.
///
/// Concurrency model: one thread for each relay owns everything that moves bytes (`RelayEngine`). The methods here may be
/// called from anywhere; they put a command into the mailbox of that thread, and never block.
package final class Relay: Sendable {
  private let mailbox: Mailbox
  private let counters = RelayCounters()

  /// Starts the thread, called `nbd relay NAME` (the kernel keeps 15 bytes of it). `onEvent` is called on it and must not
  /// block. What it inherits goes to the first link before anything else, and nothing goes before the former links are
  /// closed. Throws what timerfd_create(2) or pthread_create(3) answer.
  package init(
    name: String, _ settings: RelaySettings, inheriting legacy: Legacy? = nil, after former: FormerLinks? = nil,
    onEvent: @escaping @Sendable (RelayEvent) -> Void
  ) throws(SystemCallError) {
    let mailbox = try Mailbox()
    self.mailbox = mailbox
    let counters = counters
    try BlockingThread.start("nbd relay \(name)") {
      var engine = RelayEngine(mailbox, counters, settings, inheriting: legacy, after: former, onEvent: onEvent)
      engine.run()
    }
  }

  /// Whoever forgets `end` leaves no thread behind.
  deinit { mailbox.post(.end(nil, nil)) }

  /// The end of a new socketpair for the kernel: the first time, and again when the kernel has lost its own. What is in
  /// flight is then nobody's any more; the log survives. Throws what socketpair(2) answers.
  package func makeKernelEnd() throws(SystemCallError) -> OpenFile {
    let (ours, theirs) = try KernelSocket.makePair()
    mailbox.post(.kernelEnd(ours))
    return theirs
  }

  /// Takes `links` and sends requests on them; their identifiers, in order. Empty when the relay has ended.
  @discardableResult
  package func add(_ links: [RelayLink]) async -> [LinkID] {
    await withCheckedContinuation { mailbox.post(.add(links, $0)) }
  }

  /// Moves to other servers without an error: holds new requests, waits for the answers of those under way, flushes, then
  /// goes on with `links` and says goodbye to the old ones, of which no loss is told. When it fails, and when it is not
  /// done `within` that time, the old links stay and the new ones are closed. With no old link left it is `add`.
  @discardableResult
  package func replaceAll(with links: [RelayLink], within limit: Duration) async throws(RelayError) -> [LinkID] {
    let result = await withCheckedContinuation { mailbox.post(.replaceAll(links, limit, $0)) }
    return try result.get()
  }

  /// Makes before it breaks: takes `links`, then sends nothing more on `silent`, whose late answers still count. Its
  /// reads go out elsewhere, its writes when the server has closed it, or after the fence-timeout. Where no other link is
  /// left that is known to lead to the same server, all waits until then.
  @discardableResult
  package func supersede(_ silent: LinkID, with links: [RelayLink]) async -> [LinkID] {
    await withCheckedContinuation { mailbox.post(.supersede(silent, links, $0)) }
  }

  /// Answers EIO to all that waits and all that comes, until a link is added.
  package func giveUp() { mailbox.post(.giveUp(nil)) }

  /// The same, and returns when what waited has been answered, as far as the kernel's socket takes it.
  package func answerWaiting() async {
    await withCheckedContinuation { mailbox.post(.giveUp($0)) }
  }

  /// Reads nothing more from the kernel, has everything answered and flushed. Whether that was done `within` the time;
  /// when not, all goes on as before. After a success the relay stays quiet until `resume`.
  package func drain(within limit: Duration) async -> Bool {
    await withCheckedContinuation { mailbox.post(.drain(limit, $0)) }
  }

  /// Takes requests again after `drain`.
  package func resume() { mailbox.post(.resume) }

  /// Ends the kernel's socket, as before a disconnection while I/O is held: the kernel fails what waits.
  package func endKernelSide() { mailbox.post(.endKernelSide) }

  /// New settings; links and requests are not touched.
  package func change(_ settings: RelaySettings) { mailbox.post(.change(settings)) }

  /// Says NBD_CMD_DISC on all links, closes everything and ends the thread. What waits is not answered.
  package func end() async { _ = await end(leavingFor: nil) }

  /// The same, and keeps what is not known to be safe, and what the kernel has not been told, for the next process, which
  /// knows the device by that name.
  package func end(leavingFor name: String?) async -> Remainder {
    await withCheckedContinuation { mailbox.post(.end(name, $0)) }
  }

  /// How many links take requests.
  package var linkCount: Int { counters.linkCount }

  /// The counters as they are now, from any thread.
  package func snapshot() -> RelayStatistics { counters.snapshot() }
}
