import AttachmentModel
import Supervision
import Testing

@Suite("what a plan makes of declared and running attachments")
struct PlanTests {
  private let data = spec("data")

  @Test("what does not run is started")
  func start() { #expect(plan([data], []) == ["data": .start(data)]) }

  @Test("what runs as declared is kept")
  func keep() { #expect(plan([data], [data]) == ["data": .keep]) }

  @Test("what is no longer declared is stopped")
  func stop() { #expect(plan([], [data]) == ["data": .stop]) }

  @Test("nothing declared and nothing running is nothing to do")
  func nothing() { #expect(plan([], []) == [:]) }

  @Test("a change of a time limit or of the retry policy leaves the device alone", arguments: Change.soft)
  func update(change: Change) {
    let changed = change.applied(to: data)
    #expect(plan([changed], [data]) == ["data": .update(changed)])
  }

  @Test("a running relay takes over what it keeps and how patient it is", arguments: Change.relayed)
  func updateRelay(change: Change) {
    for datapath in [nil, Datapath.relay] {
      var running = data
      running.datapath = datapath
      let changed = change.applied(to: running)
      #expect(plan([changed], [running], renewable: ["data"]) == ["data": .update(changed)])
    }
  }

  @Test("every other change replaces the attachment, also together with a soft one", arguments: Change.hard)
  func replace(change: Change) {
    var changed = change.applied(to: data)
    #expect(plan([changed], [data]) == ["data": .replace(changed)])
    changed.connectTimeout = .seconds(77)
    #expect(plan([changed], [data]) == ["data": .replace(changed)])
  }

  @Test(
    "where links can be renewed under the device, a change of what they carry renews them", arguments: Change.renewing)
  func renew(change: Change) {
    var changed = change.applied(to: data)
    #expect(plan([changed], [data], renewable: ["data"]) == ["data": .renew(changed)])
    #expect(plan([changed], [data], renewable: ["other"])["data"] != .renew(changed))
    changed.retry.maximum = .seconds(77)
    #expect(plan([changed], [data], renewable: ["data"]) == ["data": .renew(changed)])
    changed.isReadOnly.toggle()
    #expect(plan([changed], [data], renewable: ["data"]) == ["data": .replace(changed)])
  }

  @Test("what the links do not carry is changed without them, or with the device", arguments: Change.allCases)
  func notRenewed(change: Change) {
    guard !Change.renewing.contains(change) else { return }
    let changed = change.applied(to: data)
    let action: Plan.Action = Change.soft.contains(change) ? .update(changed) : .replace(changed)
    #expect(plan([changed], [data], renewable: ["data"]) == ["data": action])
  }

  @Test("a plan that is carried out leads to what is declared, and does no more than that takes", arguments: 0..<200)
  func leadsThere(seed: UInt64) throws {
    var random = SplitMix64(state: seed)
    let (declared, before) = (specs(&random), specs(&random))
    var running = Dictionary(uniqueKeysWithValues: before.map { ($0.name, $0) })
    let renewable = Set(running.keys.filter { _ in Bool.random(using: &random) })
    for (name, action) in Plan(declared: declared, running: running, renewable: renewable).actions {
      let old = running[name]
      switch action {
      case .start(let spec):
        #expect(old == nil)
        running[name] = spec
      case .keep:
        #expect(old != nil)
      case .update(let spec):
        var softened = try #require(old)
        #expect(softened != spec)
        softened.connectTimeout = spec.connectTimeout
        softened.reconnectTimeout = spec.reconnectTimeout
        softened.retry = spec.retry
        softened.failBack = spec.failBack
        #expect(softened == spec)
        running[name] = spec
      case .renew(let spec):
        let old = try #require(old)
        #expect(old.device == spec.device && old.isReadOnly == spec.isReadOnly && old.connections == spec.connections)
        #expect(renewable.contains(name))
        running[name] = spec
      case .replace(let spec):
        #expect(old != nil && old != spec)
        running[name] = spec
      case .stop:
        #expect(running.removeValue(forKey: name) != nil)
      }
    }
    #expect(running == Dictionary(uniqueKeysWithValues: declared.map { ($0.name, $0) }))
  }

  private func plan(
    _ declared: [AttachmentSpec], _ running: [AttachmentSpec], renewable: Set<String> = []
  ) -> [String: Plan.Action] {
    Plan(
      declared: declared, running: Dictionary(uniqueKeysWithValues: running.map { ($0.name, $0) }),
      renewable: renewable
    ).actions
  }

  /// Some of six names, each with up to three changes.
  private func specs(_ random: inout SplitMix64) -> [AttachmentSpec] {
    ["a", "b", "c", "d", "e", "f"].filter { _ in Bool.random(using: &random) }.map { name in
      (0..<Int.random(in: 0...3, using: &random)).reduce(spec(name)) { spec, _ in
        (Change.soft + Change.hard).randomElement(using: &random)?.applied(to: spec) ?? spec
      }
    }
  }
}

/// A change of one thing that an operator can declare.
enum Change: CaseIterable {
  case connectTimeout
  case reconnectTimeout
  case retry
  case servers
  case export
  case device
  case readOnly
  case connections
  case blockSize
  case kernelInterface
  case datapath
  case requestTimeout
  case unflushedLimit
  case fenceTimeout
  case failBack
  case tls
  case expectedSize

  static let soft: [Change] = [.connectTimeout, .reconnectTimeout, .retry, .failBack]
  /// With a relay these are soft too.
  static let relayed: [Change] = [.requestTimeout, .unflushedLimit, .fenceTimeout]
  /// Where the kernel's device outlives its links.
  static let renewing: [Change] = [.servers, .tls, .expectedSize, .requestTimeout]
  static let hard = allCases.filter { !soft.contains($0) }

  func applied(to spec: AttachmentSpec) -> AttachmentSpec {
    var spec = spec
    switch self {
    case .connectTimeout: spec.connectTimeout += .seconds(1)
    case .reconnectTimeout: spec.reconnectTimeout = .seconds(9)
    case .retry: spec.retry.maximum += .seconds(1)
    case .servers: spec.servers.reverse()
    case .export: spec.servers[0].exportName = "another"
    case .device: spec.device = .index(5)
    case .readOnly: spec.isReadOnly.toggle()
    case .connections: spec.connections = 4
    case .blockSize: spec.blockSize = 4096
    case .kernelInterface: spec.kernelInterface = .ioctl
    case .datapath: spec.datapath = .relay
    case .requestTimeout: spec.requestTimeout = .seconds(7)
    case .unflushedLimit: spec.unflushedLimit = 0
    case .fenceTimeout: spec.fenceTimeout = .seconds(60)
    case .failBack: spec.failBack = .seconds(60)
    case .tls: spec.tls = TLSSpec()
    case .expectedSize: spec.expectedSize = 1 << 20
    }
    return spec
  }
}

/// Two servers, so that their order can change, and no relay.
func spec(_ name: String) -> AttachmentSpec {
  var spec = AttachmentSpec(
    name: name,
    servers: [
      ServerURI(address: .tcp(host: "one.example", port: 10809), exportName: name),
      ServerURI(address: .tcp(host: "two.example", port: 10809), exportName: name),
    ])
  spec.datapath = .direct
  return spec
}
