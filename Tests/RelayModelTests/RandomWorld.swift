import NBDProtocol

@testable import RelayModel

/// Kernel, ledger, links and a forgetful server, moved by chance. What breaks a rule is in `kernel.violations`.
final class RandomWorld {
  static let blocks = 12

  /// A socket to one instance of the server.
  struct Wire {
    let id: LinkID
    let instance: Int
    /// Sent, and not yet got by the server.
    var outgoing: [Transmission] = []
    /// Got, and not yet carried out.
    var received: [ForgetfulServer.Received] = []
    /// Answered, and not yet read by the ledger.
    var replies: [Reply] = []
    /// The server lives, and does nothing for this link.
    var isSilent = false
    /// Half closed by the engine, or NBD_ESHUTDOWN was seen.
    var isLeaving = false
    /// What comes next is answered with NBD_ESHUTDOWN.
    var isEnding = false
  }

  struct Reply {
    let cookie: UInt64
    let error: UInt32
    let data: [Content]
  }

  var random: SeededRandom
  var ledger: RelayLedger
  let server: ForgetfulServer
  let kernel = KernelModel(blocks: RandomWorld.blocks)
  var wires: [Wire] = []
  private var nextLink: LinkID = 1
  var now: UInt64 = 1_000_000_000
  /// Payloads that the ledger has not given back.
  private var payloads: Set<Int32> = []
  /// What the ledger believes to be out.
  var out: [UInt64: Transmission] = [:]
  private var assemblies: [UInt64: [Content]] = [:]
  var isDraining = false
  /// Errors, hostile replies, silence.
  var isTroubled = true
  private var lowestLimit: (bytes: Int, entries: Int)

  init(seed: UInt64) {
    var random = SeededRandom(seed)
    let bytes = [0, 512, 2048, 8192, 1 << 20, 1 << 20][random.below(6)]
    let entries = [1, 2, 5, 1000, 1000][random.below(5)]
    let requests = [1, 4, 16, 32][random.below(4)]
    ledger = RelayLedger(
      LedgerLimits(
        unflushedBytes: bytes, unflushedEntries: entries, requests: requests, requestTimeout: 20_000_000_000))
    lowestLimit = (bytes, entries)
    let canFlush = random.chance(90)
    server = ForgetfulServer(
      blocks: RandomWorld.blocks,
      ServerLimits(
        maximumPayload: [512, 1024, 4096][random.below(3)], canFlush: canFlush, canFUA: canFlush && random.chance(80),
        canMultiConn: random.chance(70)))
    server.mayForget = bytes > 0
    self.random = random
  }

  func complain(_ text: String) { kernel.complain(text) }

  /// What has happened, where that is wanted.
  private(set) var history: [String] = []
  var keepsHistory = false

  func note(_ text: @autoclosure () -> String) {
    if keepsHistory, kernel.violations.isEmpty { history.append(text()) }
  }

  // The kernel asks.

  func ask() {
    guard ledger.acceptsRequests, !isDraining else { return }
    let count = 1 + random.below(4)
    let first = random.below(RandomWorld.blocks - count + 1)
    var flags: CommandFlags = random.chance(15) && server.limits.canFUA ? .fua : []
    let command: CommandCode
    switch random.below(20) {
    case 0..<5: (command, flags) = (.read, [])
    case 5..<14: command = .write
    case 14, 15: (command, flags) = server.limits.canFlush ? (.flush, []) : (.read, [])
    case 16: command = .trim
    default: command = .writeZeroes
    }
    let request = kernel.make(command, flags, first: first, count: count)
    var payload: PayloadLocation?
    if command == .write {
      payload = PayloadLocation(segment: Int32(request.cookie), offset: 28)
      payloads.insert(Int32(request.cookie))
    }
    note("ask \(request)")
    ledger.accept(request, payload: payload, now: now)
    pump()
  }

  // The engine.

  /// All that the ledger wants done.
  func pump() {
    while let answer = ledger.nextAnswer() {
      assemblies[answer.kernelCookie] = nil
      kernel.answered(answer.kernelCookie, error: answer.error, data: [], server)
    }
    while let event = ledger.nextEvent() { take(event) }
    while let payload = ledger.nextReleased() {
      if payloads.remove(payload.segment) == nil { complain("payload \(payload.segment) was released twice") }
    }
    while let transmission = ledger.nextTransmission(now: now) { send(transmission) }
    checkLimits()
  }

  private func take(_ event: LedgerEvent) {
    note("event \(event)")
    switch event {
    case .dataLost(let range): kernel.lost(offset: range.offset, length: UInt32(range.length))
    case .flushFailed: kernel.owe()
    case .recovered, .resent, .stalled, .unstalled, .silent, .speaking: break
    }
  }

  private func send(_ transmission: Transmission) {
    note("send \(transmission)")
    guard let index = wires.firstIndex(where: { $0.id == transmission.link }) else {
      return complain("sent on link \(transmission.link), which is gone")
    }
    if wires[index].isLeaving { complain("sent on link \(transmission.link), which is leaving") }
    if out[transmission.cookie] != nil { complain("two requests have one cookie") }
    if transmission.command.isWriting {
      for other in out.values where other.command.isWriting && overlap(other, transmission) {
        complain("overlapping writes are in flight: \(other), \(transmission)")
      }
    }
    if !server.limits.canMultiConn, out.values.contains(where: { isUsed($0.link) && $0.link != transmission.link }) {
      complain("two links are used at once")
    }
    if transmission.length > server.limits.maximumPayload,
      transmission.command.isWriting == (transmission.payload != nil),
      wires[index].instance == server.instance
    {
      complain("\(transmission.length) bytes are above the maximum payload")
    }
    out[transmission.cookie] = transmission
    wires[index].outgoing.append(transmission)
    // Its socket is full, perhaps in the middle of a request's parts.
    if isTroubled, random.chance(5) { ledger.setWritable(transmission.link, false) }
  }

  private func isUsed(_ link: LinkID) -> Bool { wires.contains { $0.id == link && !$0.isLeaving } }

  private func overlap(_ one: Transmission, _ other: Transmission) -> Bool {
    one.offset < other.offset + UInt64(other.length) && other.offset < one.offset + UInt64(one.length)
  }

  private func checkLimits() {
    let unflushed = ledger.unflushed
    if unflushed.entries > max(1, lowestLimit.entries) { complain("\(unflushed.entries) entries are kept") }
    if unflushed.entries > 1, unflushed.bytes > lowestLimit.bytes { complain("\(unflushed.bytes) bytes are kept") }
    if ledger.unanswered > ledger.limits.requests { complain("\(ledger.unanswered) requests are held") }
    if ledger.unanswered != kernel.pending.count {
      complain("\(ledger.unanswered) requests are held, \(kernel.pending.count) are asked")
    }
  }

  func changeLimits() {
    // Nothing is kept from now on: what a server has lost already without anybody's notice must not be among it.
    let mayBeNone = !wires.contains { $0.instance != server.instance }
    ledger.limits.unflushedBytes = [mayBeNone ? 0 : 512, 512, 4096, 1 << 20][random.below(4)]
    note("limits \(ledger.limits)")
    if ledger.limits.unflushedBytes == 0 { server.mayForget = false }
    // What is out was sent under the old ones.
    lowestLimit = (.max, .max)
    pump()
  }

  /// The ledger reads one reply. Gives `false` when there is none.
  @discardableResult
  func read(_ index: Int) -> Bool {
    guard wires.indices.contains(index), !wires[index].replies.isEmpty else { return false }
    let reply = wires[index].replies.removeFirst()
    let link = wires[index].id
    if random.chance(30) { ledger.setWritable(link, true) }
    let isKnown = out[reply.cookie]?.link == link
    guard let expected = ledger.expected(reply.cookie, from: link) else {
      if isKnown { complain("a reply was not expected") }
      lose(index)
      return true
    }
    if !isKnown { complain("a reply to nothing was expected") }
    if reply.error == 0, Int(expected.payloadLength) != reply.data.count * 512 {
      complain("a READ of \(reply.data.count) blocks was expected to give \(expected.payloadLength) bytes")
    }
    if reply.error != ErrorCode.shutdown.rawValue { out[reply.cookie] = nil }
    let outcome = ledger.replied(reply.cookie, from: link, error: reply.error, now: now)
    note("reply \(reply) on \(link): \(outcome)")
    switch outcome {
    case .answer(let cookie, let error):
      kernel.answered(cookie, error: error, data: error == 0 ? reply.data : [], server)
    case .part(let cookie, let offset): assemble(cookie, offset, expected, reply)
    case .assembled(let cookie, let offset, let error):
      assemble(cookie, offset, expected, reply)
      kernel.answered(cookie, error: error, data: error == 0 ? assemblies[cookie] ?? [] : [], server)
      assemblies[cookie] = nil
    case .swallowed: break
    case .linkIsEnding: wires[index].isLeaving = true
    case .violation: complain("a reply that was expected is a violation")
    }
    ledger.answersSent()
    pump()
    return true
  }

  private func assemble(_ cookie: UInt64, _ offset: UInt32, _ expected: ExpectedReply, _ reply: Reply) {
    guard case .assembly(let its, let at, let total) = expected.destination, its == cookie, at == offset else {
      return complain("a part of READ \(cookie) was not expected as one")
    }
    var assembly = assemblies[cookie] ?? Array(repeating: 0, count: Int(total / 512))
    for (index, content) in reply.data.enumerated() { assembly[Int(offset / 512) + index] = content }
    assemblies[cookie] = assembly
  }

  func join() {
    let id = nextLink
    nextLink += 1
    wires.append(Wire(id: id, instance: server.instance))
    note("join \(id), instance \(server.instance)")
    ledger.linkJoined(id, server.limits, now: now)
    pump()
  }

  /// The engine sees the end of a link: what the server has got is carried out now or never.
  func lose(_ index: Int) {
    let link = end(index)
    note("lose \(link)")
    ledger.linkLost(link, now: now)
    pump()
  }

  /// There is no ledger any more that would see it.
  private func loseUnseen() { _ = end(wires.count - 1) }

  private func end(_ index: Int) -> LinkID {
    let wire = wires.remove(at: index)
    if wire.instance == server.instance {
      for request in wire.received where random.chance(50) {
        note("carry out \(request.transmission) late")
        _ = server.carryOut(request, on: wire.id)
      }
    }
    for (cookie, transmission) in out where transmission.link == wire.id { out[cookie] = nil }
    return wire.id
  }

  /// Half closes a link that is silent.
  func leave(_ index: Int) {
    wires[index].isLeaving = true
    // The server sees the end of what was sent.
    for transmission in wires[index].outgoing { wires[index].received.append(receive(transmission)) }
    wires[index].outgoing = []
    note("leave \(wires[index].id)")
    ledger.linkLeaving(wires[index].id)
    pump()
  }

  func giveUp() {
    guard !wires.contains(where: { !$0.isLeaving }) else { return }
    note("give up")
    ledger.giveUp(now: now)
    pump()
    if !kernel.pending.isEmpty { complain("given up, and \(kernel.pending.count) requests are unanswered") }
  }

  func reset() {
    assemblies = [:]
    kernel.forgetAll()
    note("reset")
    ledger.kernelReset()
    pump()
  }

  /// The process ends and another one takes over: all links are lost, and the kernel asks again for what it still wants.
  func handOver() {
    let writes = ledger.loggedWrites
    let errors = ledger.errorsOwed
    let limits = ledger.limits
    assemblies = [:]
    kernel.forgetAll()
    while !wires.isEmpty { loseUnseen() }
    isDraining = false
    payloads = Set(writes.compactMap(\.payload?.segment))
    note("hand over \(writes), \(errors)")
    ledger = RelayLedger(limits)
    if !ledger.inherit(writes, owing: errors, now: now) { complain("what was left is refused") }
    pump()
  }

  func drain() {
    note("drain")
    isDraining.toggle()
    if isDraining { ledger.drain() } else { ledger.undrain() }
    pump()
  }

  // The server.

  /// It gets the next request of a link.
  func deliver(_ index: Int) {
    guard wires[index].instance == server.instance, !wires[index].outgoing.isEmpty else { return }
    wires[index].received.append(receive(wires[index].outgoing.removeFirst()))
  }

  private func receive(_ transmission: Transmission) -> ForgetfulServer.Received {
    var contents: [Content] = []
    if transmission.command == .write {
      guard let payload = transmission.payload, payloads.contains(payload.segment) else {
        complain("a payload is sent that was given back: \(transmission)")
        return server.receive(transmission, contents: Array(repeating: 0, count: Int(transmission.length / 512)))
      }
      let first = Int(payload.offset - 28) / 512
      for index in 0..<Int(transmission.length / 512) {
        contents.append(KernelModel.content(UInt64(payload.segment), first + index))
      }
    }
    return server.receive(transmission, contents: contents)
  }

  /// It carries out any one of those that it has got.
  func carryOut(_ index: Int) {
    guard wires[index].instance == server.instance, !wires[index].received.isEmpty else { return }
    let request = wires[index].received.remove(at: random.below(wires[index].received.count))
    let cookie = request.transmission.cookie
    note("carry out \(request.transmission)")
    if wires[index].isEnding {
      wires[index].replies.append(Reply(cookie: cookie, error: ErrorCode.shutdown.rawValue, data: []))
    } else if isTroubled, random.chance(3) {
      server.carryOutSome(request, on: wires[index].id, &random)
      wires[index].replies.append(Reply(cookie: cookie, error: random.chance(50) ? 28 : 5, data: []))
    } else {
      let data = server.carryOut(request, on: wires[index].id)
      wires[index].replies.append(Reply(cookie: cookie, error: 0, data: data))
    }
  }

  /// It is gone, with its cache; nobody has noticed yet, and what it had answered is still to be read.
  func crash() {
    note("crash")
    if server.mayForget { server.crash(&random) } else { server.restart() }
    for index in wires.indices {
      wires[index].outgoing = []
      wires[index].received = []
      if random.chance(50) { wires[index].replies = [] }
    }
    if random.chance(30) { server.limits.maximumPayload = [512, 1024, 4096][random.below(3)] }
  }
}
