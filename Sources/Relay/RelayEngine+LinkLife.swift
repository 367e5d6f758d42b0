import Glibc
import LinuxKernel
import NBDProtocol
import RelayModel

/// How links come and go.
extension RelayEngine {
  /// How long a server that shuts down may still answer what it holds before the link is half closed.
  private static let endingGrace: UInt64 = 1_000_000_000

  @inline(__always)
  func find(_ id: LinkID) -> UnsafeMutablePointer<ServerLink>? {
    for link in links where link.pointee.id == id { return link }
    return nil
  }

  private var upCount: Int {
    var count = 0
    for link in links where link.pointee.standing == .up { count += 1 }
    return count
  }

  mutating func join(_ added: [RelayLink]) -> [LinkID] {
    var identifiers: [LinkID] = []
    for link in added {
      lastLink += 1
      let place = UnsafeMutablePointer<ServerLink>.allocate(capacity: 1)
      place.initialize(to: ServerLink(lastLink, link))
      links.append(place)
      identifiers.append(lastLink)
      ledger.linkJoined(lastLink, link.server, now: now)
    }
    linksChanged()
    return identifiers
  }

  /// The link is lost: it is closed, and what was out on it is the ledger's to send again.
  mutating func lose(_ link: UnsafeMutablePointer<ServerLink>, _ loss: RelayEvent.Loss) {
    let loss =
      switch link.pointee.standing {
      case .up: loss
      case .ending: RelayEvent.Loss.shuttingDown
      case .leaving(_, let reason): reason
      case .gone: loss
      }
    guard link.pointee.standing != .gone else { return }
    let said = link.pointee.transport?.reason
    let isKnown = if case .leaving(_, .shuttingDown) = link.pointee.standing { true } else { false }
    close(link)
    counters.add(to: .linksLost)
    // When it was half closed.
    guard !isKnown else { return }
    let told = if case .failed = loss, let said { RelayEvent.Loss.insecure(said) } else { loss }
    onEvent(.linkLost(link.pointee.id, told, remaining: upCount))
  }

  private mutating func close(_ link: UnsafeMutablePointer<ServerLink>) {
    if link.pointee.standing != .up { goingCount -= 1 }
    link.pointee.standing = .gone
    link.pointee.output.clear(segments)
    // The service manager may have a duplicate: its server is to see the end all the same.
    Socket.shutDown(link.pointee.descriptor)
    link.pointee.transport = nil
    link.pointee.descriptor = -1
    onEvent(.linkClosed(link.pointee.id))
    link.pointee.hasMoreInput = false
    link.pointee.hasUnparsed = false
    if case .filling = link.pointee.passage {
      link.pointee.passage = .none
      link.pointee.pipe.close()
    }
    ledger.linkLost(link.pointee.id, now: now)
    linksChanged()
  }

  private mutating func linksChanged() {
    counters.set(.links, upCount)
    decryptsReplies = links.contains { $0.pointee.transport.map { !$0.isPlain } ?? false }
  }

  /// I/O waits from the loss of the last link until the log is sent again, and what a server still holds is fenced off.
  mutating func noteHolding() {
    guard lastLink > 0, ledger.holdsIO else {
      guard heldSince != 0 else { return }
      counters.add(now - heldSince, to: .held)
      heldSince = 0
      return
    }
    guard heldSince == 0 else { return }
    heldSince = now
    usedWhenHeld = segments.used
  }

  /// The server said NBD_ESHUTDOWN: the ledger sends nothing more on it.
  mutating func beginEnding(_ link: UnsafeMutablePointer<ServerLink>) {
    guard link.pointee.standing == .up else { return }
    link.pointee.standing = .ending(until: now + RelayEngine.endingGrace)
    goingCount += 1
    linksChanged()
  }

  /// Half-closes a silent link; see DESIGN.md, "Silence".
  mutating func beginLeaving(_ id: LinkID) {
    guard let link = find(id), link.pointee.standing == .up else { return }
    goingCount += 1
    ledger.linkLeaving(id)
    halfClose(link, because: .superseded)
    linksChanged()
  }

  /// Its late answers are taken until the server closes it too, or the fence-timeout has passed.
  private mutating func halfClose(_ link: UnsafeMutablePointer<ServerLink>, because reason: RelayEvent.Loss) {
    let fence = settings.fenceTimeout.map { now + $0.clampedNanoseconds }
    link.pointee.standing = .leaving(until: fence, because: reason)
    link.pointee.output.clear(segments)
    link.pointee.isBlocked = false
    link.pointee.transport?.finishSending()
  }

  /// Closes the links whose writes are all answered, or that have no more time to answer them. Their reads are asked
  /// elsewhere.
  mutating func endLinks() {
    guard goingCount > 0 else { return }
    for link in links {
      switch link.pointee.standing {
      case .ending where !ledger.awaitsWrites(on: link.pointee.id):
        sayGoodbye(link)
        lose(link, .shuttingDown)
      case .ending(let until) where now >= until:
        // It may carry out a write yet: one that is sent elsewhere meanwhile could be overwritten by it. Others are made
        // ready in the time that it takes.
        halfClose(link, because: .shuttingDown)
        onEvent(.linkLost(link.pointee.id, .shuttingDown, remaining: upCount))
      case .leaving(.some(let until), let reason) where now >= until: lose(link, reason)
      case .up, .ending, .leaving, .gone: break
      }
    }
  }

  /// NBD_CMD_DISC, where the stream is at the beginning of a request and the socket has room for it.
  mutating func sayGoodbye(_ link: UnsafeMutablePointer<ServerLink>) {
    guard let transport = link.pointee.transport else { return }
    if link.pointee.output.isEmpty {
      link.pointee.output.append(header: Request(.disconnect, cookie: 0))
      _ = transport.send(link.pointee.output.gather)
      link.pointee.output.clear(segments)
    }
    transport.finishSending()
  }

  /// The old links are no longer needed: all is answered, and flushed.
  mutating func dismiss() {
    for link in links where link.pointee.standing == .up {
      sayGoodbye(link)
      close(link)
    }
  }

  /// All that was on its way to the kernel has been sent, or is of no use any more.
  mutating func settleDebts() {
    for link in links {
      link.pointee.owesKernel = false
      if case .full = link.pointee.passage {
        link.pointee.passage = .none
        link.pointee.pipe.close()
      }
    }
  }

  /// Frees the links whose last replies have reached the kernel.
  mutating func removeGoneLinks() {
    var index = 0
    while index < links.count {
      let link = links[index]
      if link.pointee.standing == .gone, !link.pointee.owesKernel {
        link.pointee.free(segments)
        link.deinitialize(count: 1)
        link.deallocate()
        links.remove(at: index)
      } else {
        index += 1
      }
    }
  }
}

extension Duration {
  /// Not below 0, and not so much that a sum overflows.
  var clampedNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    return UInt64(min(seconds, 1 << 32)) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
  }
}
