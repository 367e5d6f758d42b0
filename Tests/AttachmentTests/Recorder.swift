import AttachmentModel
import LinuxKernel
import Synchronization
import Testing

@testable import Attachment

/// A worker with a fake device, and all that was observed of it.
final class Recorder: Sendable {
  let device: FakeDevice
  let worker: AttachmentWorker
  private let log: Log

  init(
    _ servers: ServerURI..., interface: KernelInterface = .ioctl, script: [FakeDevice.Binding] = [], number: Int = 0,
    adjust: (inout AttachmentSpec) -> Void = { _ in }
  ) {
    var spec = AttachmentSpec(name: "data\(number)", servers: servers)
    spec.retry = RetryPolicy(initial: .milliseconds(10), maximum: .milliseconds(50))
    adjust(&spec)
    let device = FakeDevice(number: number, interface: interface, datapath: spec.datapath ?? .direct, script: script)
    let log = Log()
    self.device = device
    self.log = log
    worker = AttachmentWorker(spec, seed: 1) { _ in
      log.devices.withLock { $0 += 1 }
      return device
    } observe: { observation in
      log.observations.withLock { $0.append(observation) }
    }
  }

  var observations: [AttachmentWorker.Observation] { log.observations.withLock { $0 } }
  /// How often the worker made a device.
  var devices: Int { log.devices.withLock { $0 } }

  /// The states in their order, each once until it changes.
  var states: [AttachmentReport.State] { [.stopped] + observations.filter { $0.previous != nil }.map(\.report.state) }

  /// Waits until something like that was observed after the first `skipped` observations; what it was.
  @discardableResult
  func wait(
    skipping skipped: Int = 0, _ what: String, _ isIt: @Sendable (AttachmentReport) -> Bool
  ) async throws -> AttachmentReport {
    var found: AttachmentReport?
    try await eventually("\(what), after \(states)") {
      found = observations.dropFirst(skipped).first { isIt($0.report) }?.report
      return found != nil
    }
    return try #require(found)
  }

  @discardableResult
  func wait(for state: AttachmentReport.State, skipping skipped: Int = 0) async throws -> AttachmentReport {
    try await wait(skipping: skipped, "state \(state)") { $0.state == state }
  }

  /// Each observation follows from the one before it.
  func checkOrder(sourceLocation: SourceLocation = #_sourceLocation) {
    var state = AttachmentReport.State.stopped
    var since = 0.0
    let observations = observations
    for (place, observation) in observations.enumerated() {
      let report = observation.report
      if let previous = observation.previous {
        #expect(previous == state && report.state != state, sourceLocation: sourceLocation)
      } else {
        #expect(report.state == state, sourceLocation: sourceLocation)
      }
      #expect(report.since >= since, sourceLocation: sourceLocation)
      let hasLinks = [.attached, .degraded].contains(report.state)
      // That a link was lost at once is told soon after.
      let isLostSoon = observations.dropFirst(place + 1).prefix(2).contains { $0.report.losses > report.losses }
      #expect((report.links > 0) == hasLinks || isLostSoon, sourceLocation: sourceLocation)
      if device.interface == .ioctl {
        let isTrying = [.connecting, .detaching].contains(report.state)
        #expect(report.activity == nil || isTrying, sourceLocation: sourceLocation)
        #expect((report.nextTry != nil) == [.waiting, .failed].contains(report.state), sourceLocation: sourceLocation)
      }
      (state, since) = (report.state, report.since)
    }
  }
}

private final class Log: Sendable {
  let observations = Mutex<[AttachmentWorker.Observation]>([])
  let devices = Mutex(0)
}
