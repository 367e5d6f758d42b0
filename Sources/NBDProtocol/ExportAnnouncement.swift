extension Handshake {
  /// What the NBD_REP_INFO of an export said so far; a type that is repeated counts as last sent.
  struct Announcement: Sendable {
    var count = 0
    var export: (size: UInt64, flags: TransmissionFlags)?
    var blockSizes: (minimum: UInt32, preferred: UInt32, maximumPayload: UInt32)?
    var name: String?
    var description: String?
  }

  func take(
    _ reply: OptionReply, of option: OptionCode, into announcement: inout Announcement
  ) throws(HandshakeError) {
    guard announcement.count < Self.maximumInfos else {
      throw .violation(.tooManyReplies(option, limit: Self.maximumInfos))
    }
    announcement.count += 1
    let data = reply.data.span.bytes
    switch data.bigEndian(UInt16.self, at: 0).map(InfoCode.init(rawValue:)) {
    case .export:
      guard let size = data.bigEndian(UInt64.self, at: 2), let flags = data.bigEndian(UInt16.self, at: 10) else {
        throw .outOfStep
      }
      announcement.export = (size, TransmissionFlags(rawValue: flags))
    case .blockSize:
      guard let minimum = data.bigEndian(UInt32.self, at: 2), let preferred = data.bigEndian(UInt32.self, at: 6),
        let maximum = data.bigEndian(UInt32.self, at: 10)
      else { throw .outOfStep }
      announcement.blockSizes = (minimum, preferred, maximum)
    case .name: announcement.name = try Self.name(reply.data[2...])
    case .description: announcement.description = String(decoding: reply.data[2...], as: UTF8.self)
    default: break
    }
  }

  func export(from announcement: Announcement, by option: OptionCode) throws(HandshakeError) -> ExportInfo {
    guard let (size, flags) = announcement.export else { throw .violation(.noExportInfo(option)) }
    var export = ExportInfo(name: exportName, size: size, flags: flags)
    if let (minimum, preferred, maximum) = announcement.blockSizes {
      guard let sizes = BlockSizes(announced: minimum, preferred, maximum, exportSize: size) else {
        throw .violation(.blockSizes(minimum: minimum, preferred: preferred, maximumPayload: maximum))
      }
      export.blockSizes = sizes
    }
    export.canonicalName = announcement.name
    export.description = announcement.description
    return export
  }
}
