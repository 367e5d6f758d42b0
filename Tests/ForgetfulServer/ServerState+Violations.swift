import NBDProtocol

extension ServerState {
  /// Notes what a client may not do (proto.md, "Transmission phase", "Size constraints").
  mutating func check(_ received: Received, _ offer: Behaviour.Offer) {
    let request = received.request
    for fault in faults(of: request, offer) { violated("\(request.command): \(fault)", received.connection) }
    for operation in pending + held where connections[operation.received.connection] != nil {
      let other = operation.received.request
      if operation.received.connection == received.connection, other.cookie == request.cookie {
        violated("\(request.command): the cookie \(request.cookie) is under way already", received.connection)
      }
      if request.changes, other.changes, request.touches(other) {
        violated(
          "\(request.command): bytes at \(max(request.offset, other.offset)) are in two changes under way",
          received.connection)
      }
    }
  }

  mutating func violated(_ what: String, _ connection: Int) {
    facts.violations.append("connection \(connection): \(what)")
  }

  private func faults(of request: Request, _ offer: Behaviour.Offer) -> [String] {
    var faults: [String] = []
    func note(_ isWrong: Bool, _ fault: String) { if isWrong { faults.append(fault) } }

    let size = offer.size ?? UInt64(image.visible.count)
    let sizes = offer.blockSizes ?? .unknown
    let minimum = UInt64(sizes.minimum)
    note(request.flags.contains(.fua) && !offer.flags.contains(.sendFUA), "FUA was not offered")
    if request.command == .flush {
      note(!offer.flags.contains(.sendFlush), "it was not offered")
      note(request.offset != 0 || request.length != 0, "offset or length is not 0")
      return faults
    }
    note(request.length == 0, "the length is 0")
    note(request.offset > size || UInt64(request.length) > size - min(size, request.offset), "it passes the end")
    note(request.offset % minimum != 0 || UInt64(request.length) % minimum != 0, "it is not aligned to \(minimum)")
    switch request.command {
    case .read: note(request.length > sizes.maximumPayload, "the payload is too long")
    case .write: note(request.length > sizes.maximumPayload, "the payload is too long")
    case .trim: note(!offer.flags.contains(.sendTrim), "it was not offered")
    case .writeZeroes: note(!offer.flags.contains(.sendWriteZeroes), "it was not offered")
    default: note(true, "it was not offered")
    }
    note(request.changes && offer.flags.contains(.readOnly), "the export is read-only")
    return faults
  }
}

extension Request {
  /// The command changes the image.
  fileprivate var changes: Bool { command == .write || command == .trim || command == .writeZeroes }

  fileprivate func touches(_ other: Request) -> Bool {
    offset < other.offset &+ UInt64(other.length) && other.offset < offset &+ UInt64(length)
  }
}
