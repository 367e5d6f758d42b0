extension Handshake {
  /// What a server's list said so far. For attaching only the wanted name matters, so nothing else piles up.
  struct Listing: Sendable {
    var entries: [ExportEntry] = []
    var count = 0
    var hasWanted = false
  }

  mutating func entry(_ reply: OptionReply) throws(HandshakeError) -> Step {
    guard listing.count < Self.maximumEntries else {
      throw .violation(.tooManyReplies(.list, limit: Self.maximumEntries))
    }
    listing.count += 1
    guard let nameLength = reply.data.span.bytes.bigEndian(UInt32.self, at: 0) else { throw .outOfStep }
    guard nameLength <= Self.maximumStringLength, nameLength <= reply.data.count - 4 else {
      throw .violation(.exportNameLength(nameLength))
    }
    let nameBytes = reply.data[4..<4 + Int(nameLength)]
    let name = try Self.name(nameBytes)
    let rest = reply.data[(4 + Int(nameLength))...]
    guard rest.count <= Self.maximumStringLength else { throw .violation(.replyLength(reply.code, reply.length)) }
    // By bytes: strings would also be equal in another Unicode normalization, which is another export.
    if nameBytes.elementsEqual(exportName.utf8) { listing.hasWanted = true }
    if goal == .list || listing.entries.count < Self.maximumOffered {
      let description = rest.isEmpty ? nil : String(decoding: rest, as: UTF8.self)
      listing.entries.append(ExportEntry(name: name, description: description))
    }
    return step(to: .replyHeader(.list))
  }

  mutating func listed() throws(HandshakeError) -> Step {
    if goal == .list {
      state = .finished(inTransmission: false)
      return Step(next: .finished(.exports(listing.entries)))
    }
    // A default export need not be in the list under its empty name.
    guard listing.hasWanted || exportName.isEmpty else {
      throw .exportNotListed(exportName, offered: listing.entries.map(\.name), count: listing.count)
    }
    return chooseByName()
  }

  /// A name is used again, so it must be what it claims to be; text for people is repaired instead.
  static func name(_ bytes: ArraySlice<UInt8>) throws(HandshakeError) -> String {
    guard let name = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else { throw .violation(.exportName) }
    return name
  }
}
