package import AttachmentModel
import FoundationEssentials

/// What the method `Status` returns and `nbdattach status --json` prints; `org.nbdattach.varlink` describes each field.
package struct StatusDocument: Codable, Equatable, Sendable {
  package var daemon: Daemon
  /// In order of name.
  package var attachments: [Attachment]

  package struct Daemon: Codable, Equatable, Sendable {
    package var version: String
    package var pid: Int
    package var started: Timestamp
    package var configurationLoaded: Timestamp?
    package var configurationError: String?
  }

  package struct Attachment: Codable, Equatable, Sendable {
    package var name: String
    package var state: AttachmentReport.State
    package var since: Timestamp
    package var activity: String?
    package var device: String?
    package var server: String?
    package var export: String?
    package var size: Int64?
    package var readOnly: Bool?
    package var blockSize: Int?
    package var kernelInterface: KernelInterface?
    package var datapath: Datapath?
    package var tls: Security?
    package var links: Int
    package var failure: Failure?
    package var nextTry: Timestamp?
    package var attempts: Int
    package var losses: Int
    package var renewalFailure: Failure?
    package var stalledSince: Timestamp?
    package var dataLossCount = 0
    package var dataLosses: [DataLoss] = []
    package var statistics: Statistics?
  }

  package struct Security: Codable, Equatable, Sendable {
    package var version: String
    package var cipher: String
    package var place: LinkSecurity.Place
    package var serverVerified: Bool
  }

  package struct DataLoss: Codable, Equatable, Sendable {
    package var offset: Int64
    package var length: Int64
    package var writes: Int
    package var bytes: Int64
    package var errno: Int32
    package var time: Timestamp
  }

  package struct Requests: Codable, Equatable, Sendable {
    package var count: Int64
    package var bytes: Int64
    package var errors: Int64
  }

  package struct Statistics: Codable, Equatable, Sendable {
    package var reads: Requests
    package var writes: Requests
    package var flushes: Requests
    package var trims: Requests
    package var resent: Int64
    package var replayed: Int64
    package var replayedBytes: Int64
    package var split: Int64
    package var latency: [Int64]
    package var heldMilliseconds: Int64
    package var longestMicroseconds: Int64
    package var queueDepth: Int64
    package var unflushed: Int64
    package var memory: Int64
  }

  package struct Failure: Codable, Equatable, Sendable {
    package var phase: AttachmentModel.Failure.Phase
    package var message: String
    package var hint: String?
    package var errno: Int32?
  }

  package init(_ snapshot: StatusSnapshot) {
    daemon = Daemon(snapshot.daemon)
    attachments = snapshot.attachments.map(Attachment.init).sorted { $0.name < $1.name }
  }
}

extension StatusDocument.Daemon {
  fileprivate init(_ report: DaemonReport) {
    self.init(
      version: report.version, pid: Int(report.pid), started: Timestamp(report.started),
      configurationLoaded: report.configurationLoaded.map(Timestamp.init),
      configurationError: report.configurationError)
  }
}

extension StatusDocument.Attachment {
  fileprivate init(_ report: AttachmentReport) {
    self.init(
      name: report.name, state: report.state, since: Timestamp(report.since), activity: report.activity,
      device: report.device, server: report.server, export: report.export,
      size: report.size.map(Int64.init(clamping:)), readOnly: report.isReadOnly, blockSize: report.blockSize,
      kernelInterface: report.kernelInterface, datapath: report.datapath,
      tls: report.security.map(StatusDocument.Security.init), links: report.links,
      failure: report.failure.map(StatusDocument.Failure.init), nextTry: report.nextTry.map(Timestamp.init),
      attempts: report.attempts, losses: report.losses,
      renewalFailure: report.renewalFailure.map(StatusDocument.Failure.init),
      stalledSince: report.stalledSince.map(Timestamp.init),
      dataLossCount: report.dataLossCount, dataLosses: report.dataLosses.map(StatusDocument.DataLoss.init),
      statistics: report.statistics.map(StatusDocument.Statistics.init))
  }
}

extension StatusDocument.Failure {
  fileprivate init(_ failure: AttachmentModel.Failure) {
    self.init(phase: failure.phase, message: failure.message, hint: failure.hint, errno: failure.errnoCode)
  }
}

extension StatusDocument.Security {
  fileprivate init(_ security: LinkSecurity) {
    self.init(
      version: security.version, cipher: security.cipher, place: security.place,
      serverVerified: security.isServerVerified)
  }
}

extension StatusDocument.DataLoss {
  fileprivate init(_ loss: AttachmentModel.DataLoss) {
    self.init(
      offset: Int64(clamping: loss.offset), length: Int64(clamping: loss.length), writes: loss.writes,
      bytes: Int64(clamping: loss.bytes), errno: loss.errnoCode, time: Timestamp(loss.time))
  }
}

extension StatusDocument.Requests {
  fileprivate init(_ requests: IOStatistics.Requests) {
    self.init(
      count: Int64(clamping: requests.count), bytes: Int64(clamping: requests.bytes),
      errors: Int64(clamping: requests.errors))
  }
}

extension StatusDocument.Statistics {
  fileprivate init(_ counted: IOStatistics) {
    self.init(
      reads: StatusDocument.Requests(counted.reads), writes: StatusDocument.Requests(counted.writes),
      flushes: StatusDocument.Requests(counted.flushes), trims: StatusDocument.Requests(counted.trims),
      resent: Int64(clamping: counted.resent), replayed: Int64(clamping: counted.replayed),
      replayedBytes: Int64(clamping: counted.replayedBytes), split: Int64(clamping: counted.split),
      latency: counted.latency.map { Int64(clamping: $0) }, heldMilliseconds: Int64(counted.held * 1e3),
      longestMicroseconds: Int64(counted.longest * 1e6),
      queueDepth: Int64(counted.queueDepth), unflushed: Int64(counted.unflushed), memory: Int64(counted.memory))
  }
}

extension StatusDocument.Statistics {
  /// A bound that half of the answers, and one that nearly all of them, have kept to; `nil` before the first.
  var latencyText: String? {
    let total = latency.reduce(0, +)
    guard total > 0, let half = bound(of: total / 2 + 1), let most = bound(of: total - total / 100) else { return nil }
    return "\(half) (half), \(most) (99 %), \(shortTimeText(Double(longestMicroseconds) / 1e6)) (all)"
  }

  private func bound(of count: Int64) -> String? {
    var sum: Int64 = 0
    for (power, requests) in latency.enumerated() {
      sum += requests
      if sum >= count {
        let isLast = power + 1 == latency.count
        return shortTimeText(isLast ? Double(longestMicroseconds) / 1e6 : IOStatistics.bound(ofBucket: power))
      }
    }
    return nil
  }
}

extension StatusDocument {
  /// For people and for `jq`: indented, keys in order.
  package func prettyJSON() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}
