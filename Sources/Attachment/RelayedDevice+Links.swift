import AttachmentModel
import Glibc
import LinuxKernel
import NBDProtocol
package import Relay
import RelayModel

extension RelayedDevice.State {
  /// Notes links that the relay has taken; how many of them have ended already.
  mutating func take(_ ids: [LinkID], _ sockets: [OpenFile], of server: ServerURI) -> Int {
    self.server = server
    var lost = 0
    for (id, socket) in zip(ids, sockets) {
      newest = max(newest, id)
      if lostEarly[id] == nil { links[id] = socket } else { lost += 1 }
      if !closedEarly.contains(id) { open[id] = socket }
    }
    lostEarly = [:]
    closedEarly = []
    return lost
  }

  /// Forgets a link; whether it was one that takes requests.
  @discardableResult
  mutating func drop(_ id: LinkID) -> Bool {
    silent.remove(id)
    return links.removeValue(forKey: id) != nil
  }

  mutating func close(_ id: LinkID) {
    guard open.removeValue(forKey: id) == nil, id > newest else { return }
    closedEarly.insert(id)
  }

  /// Whether that is news of a link in use.
  mutating func noteSilence(of id: LinkID) -> Bool { links[id] != nil && silent.insert(id).inserted }
}

extension RelayLink {
  /// What negotiation has made, on its way into the relay.
  package init(_ link: Link) {
    let flags = link.export.flags
    let transport: any RelayTransport =
      if let session = link.tls { SecureTransport(link.socket, session) } else { PlainTransport(link.socket) }
    let sizes = link.export.effectiveBlockSizes
    // What is split is split between the server's blocks, of which its maximum need not be a multiple.
    let block = max(sizes.minimum, UInt32(DeviceGeometry.smallestBlockSize))
    let most = min(sizes.maximumPayload, UInt32(RelayedDevice.largestRequest))
    self.init(
      transport,
      ServerLimits(
        maximumPayload: most - most % block,
        canFlush: flags.contains(.sendFlush), canFUA: flags.contains(.sendFUA),
        canMultiConn: flags.contains(.canMultiConn)))
  }
}

extension RelaySettings {
  init(_ spec: AttachmentSpec, _ budget: RelayBudget) {
    self.init(
      unflushedLimit: Int(clamping: spec.unflushedLimit), requestTimeout: spec.requestTimeout,
      fenceTimeout: spec.fenceTimeout, budget: budget)
  }
}

extension RelayEvent.Loss {
  /// How the link ended, for the end of a sentence.
  var reason: String? {
    switch self {
    case .closed: "the server has closed it"
    case .failed: nil
    case .shuttingDown: "the server is shutting down"
    case .violation(let text): "the server broke the protocol: \(text)"
    case .insecure(let text): text
    case .superseded: "the server was silent"
    }
  }

  var errnoCode: Int32? {
    if case .failed(let code) = self { code } else { nil }
  }
}

extension Failure {
  static func replacing(_ error: RelayError, within limit: Duration) -> Failure {
    switch error {
    case .ended: Failure(.binding, "the relay has ended", advice: .retry)
    case .notInTime:
      Failure(
        .serving,
        "the server in use has not answered all that it was asked within \(limit.components.seconds)s", advice: .retry)
    case .busy: Failure(.serving, "another change of its links is under way", advice: .retry)
    case .linksLost: Failure(.connecting, "the new links were lost at once", advice: .retry)
    }
  }
}

extension DataLoss {
  init(_ range: LostRange, time: Double) {
    self.init(
      offset: range.offset, length: range.length, errnoCode: Int32(clamping: range.error), time: time,
      writes: range.writes, bytes: range.bytes)
  }
}

extension IOStatistics {
  init(_ counted: RelayStatistics) {
    func requests(_ requests: RelayStatistics.Requests) -> Requests {
      Requests(count: requests.count, bytes: requests.bytes, errors: requests.errors)
    }
    self.init()
    reads = requests(counted.reads)
    writes = requests(counted.writes)
    flushes = requests(counted.flushes)
    trims = requests(counted.trims)
    resent = counted.resent
    replayed = counted.replayed
    replayedBytes = counted.replayedBytes
    split = counted.split
    latency = counted.latency
    held = Double(counted.heldNanoseconds) / 1e9
    longest = Double(counted.longestNanoseconds) / 1e9
    queueDepth = counted.queueDepth
    unflushed = counted.unflushedBytes
    memory = counted.memory
  }
}
