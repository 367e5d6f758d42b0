import AttachmentModel

@testable import Control

/// 2026-01-31T09:30:00Z.
let sampleNow = 1_769_851_800.0

/// An attachment with every field set.
func fullReport(_ name: String = "data", state: AttachmentReport.State = .waiting) -> AttachmentReport {
  var report = AttachmentReport(name: name, state: state, since: sampleNow - 3 * 3600 - 12 * 60)
  report.activity = "connecting to storage1.example.com"
  report.device = "/dev/nbd0"
  report.server = "nbd://storage1.example.com/data"
  report.export = "data"
  report.size = 10 << 30
  report.isReadOnly = false
  report.blockSize = 4096
  report.kernelInterface = .ioctl
  report.datapath = .direct
  report.links = 0
  report.failure = Failure(
    .connecting, "connection refused", hint: "is the server running?", errnoCode: 111, advice: .retry)
  report.nextTry = sampleNow + 5
  report.attempts = 4
  report.losses = 2
  return report
}

/// A thousand reads, some writes, and an outage.
func sampleStatistics() -> IOStatistics {
  var statistics = IOStatistics()
  statistics.reads = IOStatistics.Requests(count: 1000, bytes: 4_096_000)
  statistics.writes = IOStatistics.Requests(count: 50, bytes: 6_553_600, errors: 2)
  statistics.flushes = IOStatistics.Requests(count: 7)
  statistics.trims = IOStatistics.Requests(count: 1, bytes: 1 << 20)
  statistics.resent = 12
  statistics.replayed = 3
  statistics.replayedBytes = 12288
  statistics.latency = [0, 0, 0, 0, 0, 0, 600, 400, 50, 5, 3]
  statistics.held = 2.5
  statistics.longest = 2.625
  statistics.queueDepth = 4
  statistics.unflushed = 3 << 20
  statistics.memory = 9 << 20
  return statistics
}

/// The same with a relay, which has seen everything that can happen to one.
func relayedReport(_ name: String = "data", state: AttachmentReport.State = .waiting) -> AttachmentReport {
  var report = fullReport(name, state: state)
  report.datapath = .relay
  report.security = LinkSecurity(version: "TLS 1.3", cipher: "AES-256-GCM", place: .relay, isServerVerified: true)
  report.renewalFailure = Failure(
    .negotiating, "the server refused TLS", hint: "does it have a certificate?", errnoCode: 104, advice: .giveUp)
  report.stalledSince = sampleNow - 45
  report.dataLossCount = 1
  report.dataLosses = [DataLoss(offset: 1 << 20, length: 4096, errnoCode: 28, time: sampleNow - 60)]
  report.statistics = sampleStatistics()
  return report
}

/// An attachment that works.
func attachedReport(_ name: String = "data") -> AttachmentReport {
  var report = fullReport(name, state: .attached)
  report.activity = nil
  report.failure = nil
  report.nextTry = nil
  report.attempts = 0
  report.losses = 0
  report.links = 1
  return report
}

func snapshot(_ attachments: [AttachmentReport] = [], configurationError: String? = nil) -> StatusSnapshot {
  let daemon = DaemonReport(
    version: "1.2.3", pid: 42, started: sampleNow - 86400, configurationLoaded: sampleNow - 60,
    configurationError: configurationError)
  return StatusSnapshot(daemon: daemon, attachments: attachments)
}
