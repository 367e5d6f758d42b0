import AttachmentModel
import FakeDriver
import ForgetfulServer
import Glibc
import LinuxKernel
import NBDProtocol
import Relay
import Synchronization
import Testing

@testable import Attachment

/// A worker with a relayed device over a fake driver, and the driver's side of its socket.
final class RelayLab: Sendable {
  static let index = 5000

  let kernel: NetlinkLab
  let worker: AttachmentWorker
  private let log: Log

  /// Observations survive the lab that they came from: a second lab goes on with its kernel.
  private final class Log: Sendable {
    let observations = Mutex<[AttachmentWorker.Observation]>([])
  }

  convenience init(
    _ servers: ServerURI..., movedTo: ServerURI? = nil, adjust: (inout AttachmentSpec) -> Void = { _ in }
  ) throws {
    var spec = AttachmentSpec(name: "data", servers: servers)
    spec.device = .index(RelayLab.index)
    spec.connections = 1
    spec.retry = RetryPolicy(initial: .milliseconds(10), maximum: .milliseconds(50))
    adjust(&spec)
    self.init(try NetlinkLab(), spec, movedTo: movedTo)
  }

  init(_ kernel: NetlinkLab, _ spec: AttachmentSpec, movedTo: ServerURI? = nil, inner: (any KernelDevice)? = nil) {
    let log = Log()
    self.kernel = kernel
    self.log = log
    let budget = RelayBudget(bytes: 64 << 20)
    worker = AttachmentWorker(spec, movedTo: movedTo, seed: 1) { spec in
      let device =
        inner ?? NetlinkDevice(name: spec.name, selection: spec.device, kernel: kernel.kernel, datapath: .relay)
      return RelayedDevice(device, spec, budget: budget)
    } observe: { observation in
      log.observations.withLock { $0.append(observation) }
    }
  }

  /// The next process, which takes over what this one has left.
  func successor() async throws -> RelayLab {
    let record = try #require(observations.compactMap(\.bound).last?.record)
    let next = RelayLab(kernel, record.spec)
    let device = NetlinkDevice(adopting: record, sockets: [], kernel: kernel.kernel)
    await next.worker.adopt(
      RelayedDevice(device, record.spec, budget: RelayBudget(bytes: 64 << 20)), of: record)
    return next
  }

  var observations: [AttachmentWorker.Observation] { log.observations.withLock { $0 } }
  var states: [AttachmentReport.State] { observations.filter { $0.previous != nil }.map(\.report.state) }
  var notices: [DeviceNotice] { observations.compactMap(\.notice) }
  /// What the driver was asked for.
  var commands: [FakeRequest.Command] { kernel.driver.requests.map(\.command) }

  func start() async throws {
    await worker.start()
    try await wait(for: .attached)
  }

  @discardableResult
  func wait(for state: AttachmentReport.State, skipping skipped: Int = 0) async throws -> AttachmentReport {
    try await wait("state \(state)", skipping: skipped) { $0.state == state }
  }

  @discardableResult
  func wait(
    _ what: String, skipping skipped: Int = 0, _ isIt: @Sendable (AttachmentReport) -> Bool
  ) async throws -> AttachmentReport {
    var found: AttachmentReport?
    try await eventually("\(what), after \(states)") {
      found = observations.dropFirst(skipped).first { isIt($0.report) }?.report
      return found != nil
    }
    return try #require(found)
  }

  /// The driver's side of the socket that it has now.
  func driver() throws -> DriverSide {
    let socket = try #require(kernel.driver.socket(of: RelayLab.index))
    // The fake driver waits for the end of its own, and one descriptor can be waited for once.
    return DriverSide(try #require(OpenFile.duplicating(socket.number)))
  }
}

/// Speaks as the kernel does, one request after the other.
actor DriverSide {
  private nonisolated let executor = QueueExecutor(label: "driver side")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  private let socket: OpenFile
  private var cookie: UInt64 = 1

  init(_ socket: OpenFile) {
    self.socket = socket
    _ = fcntl(socket.number, F_SETFL, O_NONBLOCK)
  }

  /// What the server answers; `nil`: success.
  @discardableResult
  func write(_ bytes: [UInt8], at offset: UInt64) async throws -> ErrorCode? {
    try await ask(Request(.write, cookie: nextCookie(), offset: offset, length: UInt32(bytes.count)), bytes).error
  }

  func read(at offset: UInt64, count: Int) async throws -> [UInt8] {
    let request = Request(.read, cookie: nextCookie(), offset: offset, length: UInt32(count))
    let (error, bytes) = try await ask(request, [])
    try #require(error == nil)
    return bytes
  }

  /// The answer to a read that may fail.
  func readError(at offset: UInt64) async throws -> ErrorCode? {
    try await ask(Request(.read, cookie: nextCookie(), offset: offset, length: 512), []).error
  }

  @discardableResult
  func flush() async throws -> ErrorCode? { try await ask(Request(.flush, cookie: nextCookie()), []).error }

  private func nextCookie() -> UInt64 {
    cookie += 1
    return cookie
  }

  private func ask(_ request: Request, _ payload: [UInt8]) async throws -> (error: ErrorCode?, bytes: [UInt8]) {
    let stream = ByteStream(socket, scope: AttemptScope(queue: executor.queue))
    try await stream.write(request.bytes + payload)
    let header = try await stream.read(exactly: SimpleReply.byteCount)
    let reply = try SimpleReply(reading: header.span.bytes)
    try #require(reply.cookie == request.cookie)
    guard reply.error == nil, request.command == .read else { return (reply.error, []) }
    return (nil, try await stream.read(exactly: Int(request.length)))
  }
}
