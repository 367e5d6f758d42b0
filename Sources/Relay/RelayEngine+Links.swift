import Glibc
import NBDProtocol
import RelayModel

/// The links' side: requests out, replies in.
extension RelayEngine {
  /// Sends what the ledger wants sent. Whether there was anything.
  mutating func transmit() -> Bool {
    var didTransmit = false
    while true {
      var isFull = false
      while let transmission = ledger.nextTransmission(now: now) {
        guard let link = find(transmission.link) else { continue }
        didTransmit = true
        link.pointee.output.append(transmission, segments)
        if link.pointee.output.isFull {
          isFull = true
          setWritable(link, false)
        }
      }
      flushLinks()
      // A full batch that went out whole makes room for the next.
      if !isFull { return didTransmit }
    }
  }

  private mutating func flushLinks() {
    for link in links where !link.pointee.output.isEmpty && !link.pointee.isBlocked { send(link) }
  }

  private mutating func send(_ link: UnsafeMutablePointer<ServerLink>) {
    guard let transport = link.pointee.transport else { return }
    while !link.pointee.output.isEmpty {
      switch transport.send(link.pointee.output.gather) {
      case .moved(let count): link.pointee.output.advance(count, segments)
      case .wouldBlock:
        link.pointee.isBlocked = true
        return setWritable(link, false)
      case .noMemory:
        link.pointee.isBlocked = true
        link.pointee.restsUntil = now + RelayEngine.memoryPause
        return setWritable(link, false)
      case .ended(let code): return lose(link, .failed(code))
      }
    }
    setWritable(link, true)
  }

  private mutating func setWritable(_ link: UnsafeMutablePointer<ServerLink>, _ isWritable: Bool) {
    guard link.pointee.isWritable != isWritable else { return }
    link.pointee.isWritable = isWritable
    ledger.setWritable(link.pointee.id, isWritable)
  }

  /// What has come on the links, and what they have room for again.
  mutating func receiveFromLinks() {
    for link in links where link.pointee.pollIndex >= 0 { serve(link) }
    sendToKernel()
  }

  private mutating func serve(_ link: UnsafeMutablePointer<ServerLink>) {
    guard let transport = link.pointee.transport else { return }
    if polled.isWritable(link.pointee.pollIndex) {
      link.pointee.isBlocked = false
      if transport.wantsToWrite {
        switch transport.flushOutput() {
        case .moved, .wouldBlock: break
        case .noMemory: link.pointee.restsUntil = now + RelayEngine.memoryPause
        case .ended(let code): return lose(link, .failed(code))
        }
      }
      if !link.pointee.output.isEmpty, link.pointee.restsUntil <= now { send(link) }
    }
    guard link.pointee.transport != nil, !link.pointee.owesKernel else { return }
    if link.pointee.hasUnparsed, !parseReplies(link) { return }
    // What was parsed now lies in the buffer until the kernel has it, and a receive could move or overwrite it.
    guard !link.pointee.owesKernel, link.pointee.restsUntil <= now else { return }
    guard link.pointee.hasMoreInput || polled.isReadable(link.pointee.pollIndex) else { return }
    receive(link)
    // Each long reply is on its way to the kernel before the next is read; other sockets have their turns between.
    var passages = 0
    while case .full = link.pointee.passage, passages < RelayEngine.passagesInTurn {
      sendToKernel()
      guard !link.pointee.owesKernel, expectsPassage(link) else { break }
      passages += 1
      receive(link)
    }
  }

  private mutating func receive(_ link: UnsafeMutablePointer<ServerLink>) {
    hasIdleMemory = true
    guard fillPipe(link), !link.pointee.owesKernel, let transport = link.pointee.transport else { return }
    guard var room = link.pointee.input.prepare() else {
      link.pointee.restsUntil = now + RelayEngine.memoryPause
      return
    }
    if expectsPassage(link) { room = UnsafeMutableRawBufferPointer(rebasing: room[..<Wire.replySize]) }
    switch transport.receive(into: room) {
    case .moved(let count):
      link.pointee.input.received(count)
      link.pointee.hasMoreInput = count == room.count || transport.hasBufferedInput
      _ = parseReplies(link)
    case .wouldBlock: link.pointee.hasMoreInput = transport.hasBufferedInput
    case .noMemory: link.pointee.restsUntil = now + RelayEngine.memoryPause
    case .ended(let code): lose(link, code == 0 ? .closed : .failed(code))
    }
  }

  /// Carries out the whole replies that have come; `false` when the link is gone, or must wait for the kernel.
  private mutating func parseReplies(_ link: UnsafeMutablePointer<ServerLink>) -> Bool {
    link.pointee.hasUnparsed = false
    while link.pointee.input.count >= Wire.replySize, let reply = link.pointee.input.next {
      if !kernel.hasRoom {
        sendToKernel()
        guard kernel.hasRoom else {
          link.pointee.hasUnparsed = true
          return false
        }
      }
      let magic: UInt32 = Wire.load(reply, 0)
      let error: UInt32 = Wire.load(reply, 4)
      let cookie: UInt64 = Wire.load(reply, 8)
      guard magic == TransmissionMagic.simpleReply else {
        return violated(link, "the reply has the wrong magic number")
      }
      guard let expected = ledger.expected(cookie, from: link.pointee.id) else {
        return violated(link, "the reply has a cookie that is not pending")
      }
      let size = Wire.replySize + (error == 0 ? Int(expected.payloadLength) : 0)
      guard link.pointee.input.count >= size else {
        if link.pointee.input.count == Wire.replySize, isPassable(link, expected) {
          link.pointee.input.consume(Wire.replySize)
          let length = Int(expected.payloadLength)
          link.pointee.passage = .filling(cookie: cookie, length: length, left: length)
          return fillPipe(link)
        }
        link.pointee.input.need(size)
        return true
      }
      link.pointee.input.consume(size)
      let bytes = UnsafeMutableRawBufferPointer(start: reply, count: size)
      guard carryOut(bytes, cookie, error, expected, link) else { return false }
    }
    return true
  }

  @inline(__always)
  private mutating func carryOut(
    _ reply: UnsafeMutableRawBufferPointer, _ cookie: UInt64, _ rawError: UInt32, _ expected: ExpectedReply,
    _ link: UnsafeMutablePointer<ServerLink>
  ) -> Bool {
    let error = rawError == 0 ? 0 : ErrorCode(reply: rawError)?.rawValue ?? 0
    switch ledger.replied(cookie, from: link.pointee.id, error: error, now: now) {
    case .answer(let kernelCookie, let error):
      guard finish(kernelCookie, error: error) != nil, let base = reply.baseAddress else { return true }
      Wire.store(error, base, 4)
      Wire.store(kernelCookie, base, 8)
      kernel.output.append(base, error == 0 ? reply.count : Wire.replySize)
      link.pointee.owesKernel = true
    case .part(let kernelCookie, _): return assemble(reply, expected, kernelCookie, link)
    case .assembled(let kernelCookie, _, let error):
      guard rawError != 0 || assemble(reply, expected, kernelCookie, link) else { return false }
      guard let entry = finish(kernelCookie, error: error) else { return true }
      if error == 0 {
        kernel.sendAssembly(kernelCookie, total: Int(entry.length))
      } else {
        kernel.dropAssembly(kernelCookie)
        kernel.append(cookie: kernelCookie, error: error)
      }
    case .swallowed: break
    case .linkIsEnding: beginEnding(link)
    case .violation: return violated(link, "the reply has a cookie that is not pending")
    }
    return true
  }

  private mutating func assemble(
    _ reply: UnsafeMutableRawBufferPointer, _ expected: ExpectedReply, _ kernelCookie: UInt64,
    _ link: UnsafeMutablePointer<ServerLink>
  ) -> Bool {
    guard case .assembly(_, let offset, let total) = expected.destination, reply.count > Wire.replySize else {
      return true
    }
    let payload = UnsafeRawBufferPointer(rebasing: reply[Wire.replySize...])
    guard kernel.assemble(kernelCookie, total: total, offset: offset, payload) else {
      lose(link, .failed(ENOMEM))
      return false
    }
    return true
  }

  private mutating func violated(_ link: UnsafeMutablePointer<ServerLink>, _ text: String) -> Bool {
    lose(link, .violation(text))
    return false
  }
}
