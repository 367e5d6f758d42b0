import NBDProtocol

@testable import RelayModel

extension RandomWorld {
  /// Anything that may happen.
  func step() {
    now += UInt64(random.below(200)) * 1_000_000
    let index = random.below(wires.count)
    switch random.below(1000) {
    case 0..<300: ask()
    case 300..<500 where !wires.isEmpty: deliver(index)
    case 500..<700 where !wires.isEmpty: if !wires[index].isSilent { carryOut(index) }
    case 700..<880: read(index)
    case 880..<920: if wires.count < 5 { join() }
    case 920..<928 where !wires.isEmpty: lose(index)
    case 928..<934: crash()
    case 934..<944: noticeOneDead()
    case 944..<950 where !wires.isEmpty: wires[index].isSilent.toggle()
    case 950..<956 where !wires.isEmpty: supersede(index)
    case 956..<960 where !wires.isEmpty: wires[index].isEnding = true
    case 960..<964: giveUp()
    case 964..<967: reset()
    case 967..<971: drain()
    case 971..<974: changeLimits()
    case 974..<977 where !wires.isEmpty: mislead(index)
    case 977..<985 where !wires.isEmpty:
      ledger.setWritable(wires[index].id, random.chance(60))
      pump()
    case 985..<988: handOver()
    default: tick()
    }
    if isDraining, ledger.isDrained, server.mayForget { kernel.checkSafe(nil, server, "drained") }
  }

  private func tick() {
    if random.chance(20) { now += UInt64(random.below(40)) * 1_000_000_000 }
    ledger.tick(now: now)
    pump()
  }

  private func noticeOneDead() {
    let dead = wires.indices.filter {
      wires[$0].instance != server.instance || (wires[$0].isEnding && wires[$0].isLeaving)
    }
    if let index = random.pick(dead) { lose(index) }
  }

  /// Make before break.
  private func supersede(_ index: Int) {
    guard wires.contains(where: { $0.id != wires[index].id && !$0.isLeaving }) else { return join() }
    leave(index)
  }

  /// A reply with a cookie that was never given to this link.
  private func mislead(_ index: Int) {
    let other = out.values.filter { $0.link != wires[index].id }.map(\.cookie).min()
    wires[index].replies.insert(Reply(cookie: other ?? random.next(), error: 0, data: []), at: 0)
    read(index)
  }

  // The end: the server is well, and all must come out right.

  func finish() {
    isTroubled = false
    if isDraining { drain() }
    calmDown()
    checkAllAnswered("at the end")
    readAll()
    // All that it has not flushed is forgotten once more.
    crash()
    while !wires.isEmpty { lose(wires.count - 1) }
    calmDown()
    readAll()
    guard server.limits.canFlush, server.mayForget else { return }
    flushAll()
    if ledger.unflushed.entries > 0 { complain("\(ledger.unflushed) are kept after a FLUSH") }
    kernel.checkSafe(nil, server, "at the end")
  }

  /// Dead and silent links are noticed, one good link is there, and everything goes on until nothing does.
  private func calmDown() {
    for index in wires.indices.reversed()
    where wires[index].instance != server.instance || wires[index].isSilent || wires[index].isLeaving
      || wires[index].isEnding
    {
      lose(index)
    }
    join()
    for wire in wires { ledger.setWritable(wire.id, true) }
    run()
    // What may wait for a tick.
    now += 1_000_000_000
    ledger.tick(now: now)
    run()
  }

  private func run() {
    pump()
    var isBusy = true
    while isBusy, kernel.violations.isEmpty {
      isBusy = false
      for index in wires.indices.reversed() where wires.indices.contains(index) {
        if wires[index].isSilent || wires[index].isEnding { continue }
        while !wires[index].outgoing.isEmpty { deliver(index) }
        while !wires[index].received.isEmpty { carryOut(index) }
        if read(index) { isBusy = true }
      }
    }
  }

  private func checkAllAnswered(_ when: String) {
    if !kernel.pending.isEmpty {
      complain("\(when) \(kernel.pending.count) requests are unanswered: \(ledger.phase), \(ledger.waiting) wait")
    }
    if ledger.inFlight > 0 { complain("\(when) \(ledger.inFlight) are in flight") }
  }

  private func readAll() {
    for block in stride(from: 0, to: RandomWorld.blocks, by: 2) {
      ledger.accept(kernel.make(.read, [], first: block, count: 2), payload: nil, now: now)
      run()
    }
    checkAllAnswered("after reading")
  }

  /// Until one succeeds: the first may tell of a loss.
  private func flushAll() {
    for _ in 0..<2 {
      ledger.accept(kernel.make(.flush, [], first: 0, count: 0), payload: nil, now: now)
      run()
    }
    checkAllAnswered("after FLUSH")
  }
}
