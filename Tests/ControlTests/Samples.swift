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
