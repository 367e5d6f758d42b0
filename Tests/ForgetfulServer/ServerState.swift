import LinuxKernel
import NBDProtocol

/// Everything that the server's thread and its test share: decisions about requests, and their effects on the image.
struct ServerState {
  struct Operation {
    let received: Received
    let payload: [UInt8]
    let treatment: Treatment
    /// The image's changes when it arrived: what a flush has to cover at least.
    let mark: UInt64
    /// What a read took from the image; of an operation that is carried out and not answered.
    var outcome: Outcome?
  }

  struct Outcome {
    var error: ErrorCode?
    var data: [UInt8] = []
  }

  var behaviour = Behaviour()
  var image: CachedImage
  var random: SeededRandom
  var facts = Facts()
  var requests: [Received] = []
  var connections: [Int: Connection] = [:]
  /// Arrived, to be carried out next.
  var pending: [Operation] = []
  var held: [Operation] = []
  /// Of each block of a crash, the chance to survive it; as the last `crash` of a rule has it.
  var survival = 0.0
  var isDown = false
  private var connectionCount = 0

  init(image: CachedImage, seed: UInt64) {
    self.image = image
    random = SeededRandom(seed: seed)
  }

  // MARK: Connections

  mutating func add(_ socket: OpenFile, inTransmission: Bool) {
    var connection = Connection(
      connectionCount, socket, behaviour.offer,
      inTransmission
        ? .transmission
        : .handshake(ServerHandshake(size: UInt64(image.visible.count), offer: behaviour.offer)))
    connectionCount += 1
    if inTransmission { facts.connected += 1 } else { connection.send(ServerHandshake.greeting) }
    connections[connection.number] = connection
  }

  /// Closes at once. What the connection's client asked for and is held stays held, for nobody.
  mutating func close(_ number: Int) {
    guard let connection = connections.removeValue(forKey: number) else { return }
    Socket.shutDown(connection.socket.number)
    if connection.isInTransmission { facts.closed += 1 }
    if connection.isHalfClosed { facts.halfClosed -= 1 }
    pending.removeAll { $0.received.connection == number }
  }

  mutating func crash(survival: Double) {
    for number in connections.keys.sorted() { close(number) }
    pending = []
    held = []
    facts.held = 0
    facts.crashes += 1
    isDown = true
    image.crash(survival: survival, using: &random)
  }

  /// Reads what a connection has sent; its requests are pending after that.
  mutating func read(_ number: Int) {
    guard var connection = connections[number] else { return }
    let wasHalfClosed = connection.isHalfClosed
    guard connection.receive() else { return close(number) }
    if connection.isHalfClosed, !wasHalfClosed { facts.halfClosed += 1 }
    var input = connection.next()
    while true {
      switch input {
      case .request(let request, let payload):
        if request.command == .disconnect {
          facts.disconnected += 1
          connection.isHalfClosed = connection.isHalfClosed || countHalfClose()
        } else {
          arrived(request, payload, connection)
        }
      case .connected: facts.connected += 1
      case .nothing:
        connections[number] = connection
        return
      case .senseless:
        connections[number] = connection
        if connection.isInTransmission { violated("what arrived is no request", connection.number) }
        return close(number)
      }
      input = connection.next()
    }
  }

  private mutating func countHalfClose() -> Bool {
    facts.halfClosed += 1
    return true
  }

  private mutating func arrived(_ request: Request, _ payload: [UInt8], _ connection: Connection) {
    let received = Received(number: facts.received, connection: connection.number, request: request)
    facts.received += 1
    facts.receivedByCommand[request.command, default: 0] += 1
    requests.append(received)
    check(received, connection.offer)
    let operation = Operation(
      received: received, payload: payload, treatment: behaviour.treat(received), mark: image.changes)
    switch operation.treatment {
    case .hold: hold(operation)
    default: pending.append(operation)
    }
  }

  // MARK: Requests

  /// Carries out what is pending; all of it, or while requests are reordered a part of it that is never nothing.
  mutating func work() {
    if behaviour.reorders { pending.shuffle(using: &random) }
    var count =
      behaviour.reorders && pending.count > 1 ? Int.random(in: 1...pending.count, using: &random) : pending.count
    while count > 0, !pending.isEmpty {
      carryOut(pending.removeFirst())
      count -= 1
    }
  }

  /// Ends half-closed connections that have nothing under way any more.
  mutating func finishHalfClosed() {
    for number in connections.keys.sorted() {
      guard let connection = connections[number], connection.isHalfClosed else { continue }
      guard !pending.contains(where: { $0.received.connection == number }) else { continue }
      if held.contains(where: { $0.received.connection == number }) {
        switch behaviour.halfClose {
        case .finishesBeforeClose: finishHeld { $0.connection == number }
        case .waits: continue
        case .closesFirst: break
        }
      }
      if connections[number]?.hasOutput == false { close(number) }
    }
  }

  mutating func finishHeld(_ selects: (Received) -> Bool) {
    let released = held.filter { selects($0.received) }
    held.removeAll { selects($0.received) }
    facts.held = held.count
    for operation in released {
      let outcome = operation.outcome ?? outcome(of: operation)
      answer(operation, outcome)
    }
  }

  private mutating func hold(_ operation: Operation) {
    held.append(operation)
    facts.held = held.count
  }

  private mutating func carryOut(_ operation: Operation) {
    var operation = operation
    switch operation.treatment {
    case .refuse(let error): answer(operation, Outcome(error: error))
    case .crash(.beforeCarriedOut): crash(survival: survival)
    case .crash(.beforeAnswer):
      _ = outcome(of: operation)
      crash(survival: survival)
    case .crash(.afterAnswer):
      answer(operation, outcome(of: operation))
      crash(survival: survival)
    case .answerLate:
      operation.outcome = outcome(of: operation)
      hold(operation)
    case .serve, .hold, .cut, .wrongCookie, .wrongMagic: answer(operation, outcome(of: operation))
    }
    if behaviour.earlyWriteBack > 0, Double.random(in: 0..<1, using: &random) < behaviour.earlyWriteBack {
      image.writeBackOne(using: &random)
    }
  }

  /// Does to the image what the request asks for.
  private mutating func outcome(of operation: Operation) -> Outcome {
    let request = operation.received.request
    let writer = operation.received.connection
    let size = UInt64(image.visible.count)
    guard request.offset <= size, UInt64(request.length) <= size - request.offset else {
      return Outcome(error: request.command == .write || request.command == .writeZeroes ? .noSpace : .invalid)
    }
    let changes = request.command == .write || request.command == .trim || request.command == .writeZeroes
    if changes, behaviour.offer.flags.contains(.readOnly) { return Outcome(error: .notPermitted) }
    let offset = Int(request.offset)
    let range = offset..<offset + Int(request.length)
    switch request.command {
    case .read: return Outcome(data: Array(image.visible[range]))
    case .write: image.write(operation.payload, at: offset, by: writer)
    case .trim, .writeZeroes:
      image.write(repeatElement(0, count: range.count), at: offset, by: writer)
    case .flush:
      // As little as the protocol allows: nothing that was answered after the flush had come, and without
      // NBD_FLAG_CAN_MULTI_CONN nothing of another connection (proto.md, "Transmission flags").
      let isShared = behaviour.offer.flags.contains(.canMultiConn)
      image.flush(upTo: operation.mark, by: isShared ? nil : writer)
    default: return Outcome(error: .invalid)
    }
    // A server without NBD_CMD_FLUSH has nothing that needs one.
    let writesThrough = !behaviour.offer.flags.contains(.sendFlush)
    if changes, writesThrough || request.flags.contains(.fua) { image.persist(range) }
    return Outcome()
  }

  private mutating func answer(_ operation: Operation, _ outcome: Outcome) {
    let number = operation.received.connection
    guard connections[number] != nil else { return }
    var cookie = operation.received.request.cookie
    if case .wrongCookie = operation.treatment { cookie = ~cookie }
    var bytes = SimpleReply(error: outcome.error, cookie: cookie).bytes + outcome.data
    if case .wrongMagic = operation.treatment { bytes[0] = ~bytes[0] }
    guard case .cut(let count) = operation.treatment else {
      facts.answered += 1
      connections[number]?.send(bytes)
      return
    }
    connections[number]?.send(Array(bytes.prefix(count)))
    close(number)
  }
}
