import AttachmentModel

/// An attachment while its keys are being read.
struct AttachmentDraft {
  var spec: AttachmentSpec
  /// The URIs as written, beside `spec.servers`.
  var serverPlaces: [Place] = []
  /// Where each value was given, by its key's path: in this attachment, or under `defaults:`.
  var places: [String: Place] = [:]
  /// Where the keys stand that were given in this attachment itself, by their paths.
  var ownKeys: [String: Place] = [:]
}

/// Every key of an attachment; those that may be, also of `defaults:`.
let attachmentKeys: [Key<AttachmentDraft>] = [
  Key(name: "uri", isDefaultable: false, content: .value(form: "URI, or a list of up to 16", readServers)),
  .value("device", .device, standard: "auto", isDefaultable: false) { $0.spec.device = $1 },
  .value("read-only", .boolean, standard: "false") { $0.spec.isReadOnly = $1 },
  .value("connections", .auto(or: .integer(1...16)), standard: "auto") { $0.spec.connections = $1 },
  .value("block-size", .auto(or: .powerOfTwo(512...65_536)), standard: "auto") { $0.spec.blockSize = $1 },
  .value("kernel-interface", .auto(or: .word), standard: "auto") { $0.spec.kernelInterface = $1 },
  .value("datapath", .auto(or: .word), standard: "auto") { $0.spec.datapath = $1 },
  .value("connect-timeout", .duration(.milliseconds(100) ... .seconds(3600)), standard: "10s") {
    $0.spec.connectTimeout = $1
  },
  .value("request-timeout", .durationOrInfinity(.seconds(1) ... .seconds(86_400)), standard: "infinity") {
    $0.spec.requestTimeout = $1
  },
  .value("unflushed-limit", .size(0...16 << 30), standard: "64MiB") { $0.spec.unflushedLimit = $1 },
  .value("reconnect-timeout", .durationOrInfinity(.zero ... .seconds(30 * 86_400)), standard: "infinity") {
    $0.spec.reconnectTimeout = $1
  },
  .value("fence-timeout", .durationOrInfinity(.seconds(1) ... .seconds(86_400)), standard: "infinity") {
    $0.spec.fenceTimeout = $1
  },
  .value("fail-back", .durationOrInfinity(.seconds(1) ... .seconds(30 * 86_400)), standard: "infinity") {
    $0.spec.failBack = $1
  },
  .mapping(
    "retry",
    [
      .value("initial", .duration(.milliseconds(10) ... .seconds(3600)), standard: "100ms") {
        $0.spec.retry.initial = $1
      },
      .value("maximum", .duration(.milliseconds(10) ... .seconds(86_400)), standard: "30s") {
        $0.spec.retry.maximum = $1
      },
    ]),
  .mapping(
    "tls",
    [
      .value("ca-file", .credentialFile) { $0.setTLS(\.caFile, $1) },
      .value("certificate-file", .credentialFile) { $0.setTLS(\.certificateFile, $1) },
      .value("key-file", .credentialFile) { $0.setTLS(\.keyFile, $1) },
      .value("server-name", .text) { $0.setTLS(\.serverName, $1) },
      .value("verify", .verification, standard: "full") { $0.setTLS(\.verify, $1) },
      .value("psk-file", .credentialFile) { $0.setTLS(\.pskFile, $1) },
      .value("psk-identity", .text) { $0.setTLS(\.pskIdentity, $1) },
      .value("priority", .priorities) { $0.setTLS(\.priority, $1) },
    ]),
  .mapping(
    "expect", isDefaultable: false,
    [.value("size", .size(1...8 << 60)) { $0.spec.expectedSize = $1 }]),
]

extension AttachmentDraft {
  fileprivate mutating func setTLS<Value>(_ path: WritableKeyPath<TLSSpec, Value>, _ value: Value) {
    var tls = spec.tls ?? TLSSpec()
    tls[keyPath: path] = value
    spec.tls = tls == TLSSpec() ? nil : tls
  }
}

extension ValueReader<DeviceSelection> {
  /// `auto`, or `/dev/nbdX`. Minor numbers end at 2^20.
  fileprivate static var device: ValueReader {
    ValueReader(form: "auto or /dev/nbdX") { node, diagnostics in
      guard let text = node.text("a device such as `/dev/nbd0`", &diagnostics) else { return nil }
      if text == "auto" { return .anyFree }
      let prefix = "/dev/nbd"
      let digits = String(text.dropFirst(prefix.count))
      if text.hasPrefix(prefix), let index = Int(digits), (0..<1 << 20).contains(index), String(index) == digits {
        return .index(index)
      }
      let partition = digits.split(separator: "p", omittingEmptySubsequences: false)
      let isPartition = text.hasPrefix(prefix) && partition.count == 2 && partition.allSatisfy { Int($0) != nil }
      diagnostics.report(
        at: node.place, "\(text.quoted()) is no NBD device",
        hint: isPartition
          ? "an export is bound to the whole device: `\(prefix)\(partition[0])`"
          : "write `/dev/nbd0`, `/dev/nbd1`, … or `auto` for any that is free")
      return nil
    }
  }
}

/// `uri:` takes one URI or a list, and remembers where each stands.
@Sendable private func readServers(
  _ node: YAMLNode, _ draft: inout AttachmentDraft, _ diagnostics: inout Diagnostics
) -> Bool {
  var items = [node]
  if case .sequence(let list) = node.content {
    guard !list.isEmpty, list.count <= 16 else {
      diagnostics.report(at: node.place, list.isEmpty ? "the list of URIs is empty" : "the list has more than 16 URIs")
      return false
    }
    items = list
  }
  for item in items {
    guard let text = item.text("a URI such as `nbd://HOST/EXPORT`", &diagnostics),
      let server = item.parsed(&diagnostics, { () throws(TextError) in try ServerURI(parsing: text) })
    else { continue }
    if let earlier = draft.spec.servers.firstIndex(of: server), draft.serverPlaces.indices.contains(earlier) {
      diagnostics.report(
        at: item.place, "the server is in the list already", hint: "it stands at \(draft.serverPlaces[earlier].cited)")
    }
    draft.spec.servers.append(server)
    draft.serverPlaces.append(item.place)
  }
  return !draft.spec.servers.isEmpty
}
