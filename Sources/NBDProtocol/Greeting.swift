extension Handshake {
  mutating func greeted(_ bytes: [UInt8]) throws(HandshakeError) -> Step {
    let name = exportName
    guard name.utf8.count <= Self.maximumStringLength, !name.utf8.contains(0) else { throw .unusableExportName(name) }
    guard bytes.span.bytes.bigEndian(UInt64.self, at: 0) == HandshakeMagic.initial else { throw .notNBD(bytes) }
    switch bytes.span.bytes.bigEndian(UInt64.self, at: 8) {
    case HandshakeMagic.option:
      return step(to: .handshakeFlags)
    case HandshakeMagic.oldstyle:
      style = .oldstyle
      if security == .tls { throw .styleTooOld(.oldstyle, .tls) }
      if goal == .list { throw .styleTooOld(.oldstyle, .list) }
      if !name.isEmpty { throw .styleTooOld(.oldstyle, .exportName(name)) }
      return step(to: .oldstyleExport)
    default:
      throw .notNBD(bytes)
    }
  }

  mutating func handshakeFlags(_ bytes: [UInt8]) throws(HandshakeError) -> Step {
    guard let raw = bytes.span.bytes.bigEndian(UInt16.self, at: 0) else { throw .outOfStep }
    let flags = HandshakeFlags(rawValue: raw).intersection(.known)
    leavesOutZeroes = flags.contains(.noZeroes)
    style = flags.contains(.fixedNewstyle) ? .fixedNewstyle : .newstyle
    if style == .newstyle {
      if security == .tls { throw .styleTooOld(.newstyle, .tls) }
      if goal == .list { throw .styleTooOld(.newstyle, .list) }
    }
    var first = chooseFirstOption()
    var answer: [UInt8] = []
    answer.append(bigEndian: UInt32(flags.rawValue))
    first.send = answer + first.send
    return first
  }

  private mutating func chooseFirstOption() -> Step {
    guard style == .fixedNewstyle else { return chooseByName() }
    switch security {
    case .plain: return askForGoal()
    case .tls: return step(sending: Self.option(.startTLS), to: .replyHeader(.startTLS))
    }
  }

  mutating func oldstyleExport(_ bytes: [UInt8]) throws(HandshakeError) -> Step {
    guard let size = bytes.span.bytes.bigEndian(UInt64.self, at: 0),
      let flags = bytes.span.bytes.bigEndian(UInt32.self, at: 8)
    else { throw .outOfStep }
    guard let transmission = UInt16(exactly: flags) else { throw .violation(.oldstyleFlags(flags)) }
    let export = ExportInfo(name: exportName, size: size, flags: TransmissionFlags(rawValue: transmission))
    return finish(export, inTransmission: true)
  }

  mutating func exportNameReply(_ bytes: [UInt8]) throws(HandshakeError) -> Step {
    guard let size = bytes.span.bytes.bigEndian(UInt64.self, at: 0),
      let flags = bytes.span.bytes.bigEndian(UInt16.self, at: 8)
    else { throw .outOfStep }
    let export = ExportInfo(name: exportName, size: size, flags: TransmissionFlags(rawValue: flags))
    return leavesOutZeroes ? finish(export, inTransmission: true) : step(to: .zeroes(export))
  }
}
