import AttachmentModel
import Testing

@testable import Configuration

@Suite("Keys and their values")
struct KeyTests {
  /// What is left out has its default.
  private func spec(_ change: (inout AttachmentSpec) -> Void = { _ in }) -> AttachmentSpec {
    var spec = AttachmentSpec(name: "x", servers: [ServerURI(address: .tcp(host: "h", port: 10809))])
    change(&spec)
    return spec
  }

  @Test("an attachment needs no more than a URI")
  func least() {
    #expect(loadAttachment("uri: nbd://h").configuration?.attachments == [spec()])
  }

  @Test("every key that works today reaches its place")
  func values() {
    let loaded = loadAttachment(
      "uri: [nbd://h/a, 'nbd+unix:///b?socket=/run/s']", "device: /dev/nbd12", "read-only: true", "connections: 1",
      "block-size: 4KiB", "kernel-interface: ioctl", "datapath: direct", "connect-timeout: 5s", "request-timeout: 2min",
      "retry: { initial: 1s, maximum: 1min }", "expect:", "  size: 10GiB")
    let expected = spec {
      $0.servers = [
        ServerURI(address: .tcp(host: "h", port: 10809), exportName: "a"),
        ServerURI(address: .unix(path: "/run/s"), exportName: "b"),
      ]
      $0.device = .index(12)
      $0.isReadOnly = true
      $0.connections = 1
      $0.blockSize = 4096
      $0.kernelInterface = .ioctl
      $0.datapath = .direct
      $0.connectTimeout = .seconds(5)
      $0.requestTimeout = .seconds(120)
      $0.retry = RetryPolicy(initial: .seconds(1), maximum: .seconds(60))
      $0.expectedSize = 10 << 30
    }
    #expect(loaded.configuration?.attachments == [expected])
    #expect(loaded.diagnostics.isEmpty)
  }

  @Test("auto and infinity are what nothing given is")
  func automatic() {
    let loaded = loadAttachment(
      "uri: nbd://h", "device: auto", "connections: auto", "block-size: auto", "kernel-interface: auto",
      "datapath: auto",
      "request-timeout: infinity", "read-only: false")
    #expect(loaded.configuration?.attachments == [spec()])
  }

  @Test(
    "good values are taken",
    arguments: [
      "device: /dev/nbd0", "device: /dev/nbd1048575", "block-size: 512", "block-size: 65536", "block-size: 64KiB",
      "connect-timeout: 100ms", "connect-timeout: 1h", "request-timeout: 1s", "request-timeout: 1d",
      "retry: { initial: 10ms }", "retry: { maximum: 1d }", "retry: {}", "expect: { size: 1 }", "expect: {}",
      "datapath: 'direct'", "expect: { size: \"512\" }",
    ])
  func good(line: String) {
    #expect(loadAttachment("uri: nbd://h", line).diagnostics.isEmpty)
  }

  @Test(
    "bad values are refused, each with its reason",
    arguments: [
      ("device: /dev/nbd", "`/dev/nbd` is no NBD device"), ("device: /dev/sda", "`/dev/sda` is no NBD device"),
      ("device: nbd0", "`nbd0` is no NBD device"), ("device: /dev/nbd00", "`/dev/nbd00` is no NBD device"),
      ("device: /dev/nbd-1", "`/dev/nbd-1` is no NBD device"), ("device: /dev/nbd+1", "`/dev/nbd+1` is no NBD device"),
      ("device: /dev/nbd1048576", "`/dev/nbd1048576` is no NBD device"),
      ("device: /dev/nbd0p1", "`/dev/nbd0p1` is no NBD device"),
      ("device:", "the value is missing: a device such as `/dev/nbd0` is expected"),
      ("device: [a]", "a device such as `/dev/nbd0` is expected here, not a list"),
      ("read-only: yes", "`yes` is neither `true` nor `false`"),
      ("read-only: on", "`on` is neither `true` nor `false`"),
      ("read-only: True", "`True` is neither `true` nor `false`"),
      ("read-only: 1", "`1` is neither `true` nor `false`"),
      ("read-only: 'true'", "a text in quotes is neither `true` nor `false`"),
      ("read-only: {}", "`true` or `false` is expected here, not a mapping"),
      ("connections: 0", "0 is out of range"), ("connections: 17", "17 is out of range"),
      ("connections: many", "`many` is no whole number"), ("connections: 1.0", "`1.0` is no whole number"),
      ("connections: 99999999999999999999", "`99999999999999999999` is no whole number"),
      ("block-size: 1000", "1000 is no power of two"), ("block-size: 256", "`256` is out of range"),
      ("block-size: 128KiB", "`128KiB` is out of range"),
      ("block-size: 4kB", "`kB` is ambiguous: it means powers of 1000 to some and of 1024 to others"),
      ("kernel-interface: netlnk", "unknown value `netlnk`"), ("datapath: fast", "unknown value `fast`"),
      ("datapath: Direct", "unknown value `Direct`"), ("connect-timeout: 10", "a span of time needs a unit"),
      ("connect-timeout: 10ms", "`10ms` is out of range"), ("connect-timeout: 2h", "`2h` is out of range"),
      ("connect-timeout: infinity", "`infinity` is out of range"), ("request-timeout: 0s", "`0s` is out of range"),
      ("request-timeout: 2d", "`2d` is out of range"),
      ("retry: 1s", "`retry` is a mapping of keys and values, not `1s`"),
      ("retry:", "`retry` is a mapping of keys and values, not nothing"),
      ("retry: { initial: 1ms }", "`1ms` is out of range"), ("retry: { max: 1s }", "unknown key `max` in `retry`"),
      ("expect: { size: 0 }", "`0` is out of range"), ("expect: { size: 9EiB }", "`9EiB` is out of range"),
      ("expect: { size: 1.5GiB }", "a size is a whole number"),
      ("expect: 10GiB", "`expect` is a mapping of keys and values, not `10GiB`"),
    ])
  func bad(line: String, message: String) {
    let loaded = loadAttachment("uri: nbd://h", line)
    #expect(loaded.diagnostics.map(\.message) == [message])
    #expect(loaded.diagnostics.first?.line == 4)
    #expect(loaded.configuration == nil)
  }

  @Test(
    "URIs are checked one by one",
    arguments: [
      ("uri:", "3:9 the value is missing: a URI such as `nbd://HOST/EXPORT` is expected"),
      ("uri: []", "3:10 the list of URIs is empty"),
      ("uri: {}", "3:10 a URI such as `nbd://HOST/EXPORT` is expected here, not a mapping"),
      ("uri: [nbd://h, nbd://h]", "3:20 the server is in the list already"),
      ("uri: [nbd://h, [nbd://i]]", "3:20 a URI such as `nbd://HOST/EXPORT` is expected here, not a list"),
      ("uri: nbd+unix:///x?socket=run/s", "3:10 the path of the socket, `run/s`, is not absolute"),
      ("uri: [nbd://h, http://i]", "3:20 unknown scheme `http`"),
      ("uri: \"nbd://h/\\x20\"", "3:10 there is a space before or after the URI"),
    ])
  func uris(line: String, place: String) {
    #expect(loadAttachment(line).places == [place])
  }

  @Test("a list of more than 16 URIs is refused")
  func manyURIs() {
    func list(_ count: Int) -> String { (0..<count).map { "nbd://h\($0)" }.joined(separator: ", ") }
    #expect(loadAttachment("uri: [\(list(16))]").errorCount == 0)
    #expect(loadAttachment("uri: [\(list(17))]").errorCount == 1)
  }

  @Test("the daemon's settings and the defaults reach their places")
  func daemon() {
    let loaded = load(
      (
        "a.yaml",
        "attachments:\n  b: { uri: nbd://h, read-only: false, retry: { initial: 2s } }\n  a: { uri: nbd://h }\n"
      ),
      (
        "etc/nbdattachd.yaml",
        "startup-timeout: 10s\nstop-timeout: 1min\ndefaults: { read-only: true, connect-timeout: 1s, retry: { maximum: 7s } }\n"
      ))
    var settings = DaemonSettings()
    settings.startupTimeout = .seconds(10)
    settings.stopTimeout = .seconds(60)
    #expect(loaded.configuration?.daemon == settings)
    let attachments = loaded.configuration?.attachments ?? []
    #expect(attachments.map(\.name) == ["a", "b"])
    #expect(attachments.map(\.isReadOnly) == [true, false])
    #expect(attachments.map(\.connectTimeout) == [.seconds(1), .seconds(1)])
    #expect(attachments.map(\.retry.initial) == [.milliseconds(100), .seconds(2)])
    #expect(attachments.map(\.retry.maximum) == [.seconds(7), .seconds(7)])
  }

  @Test(
    "bad settings of the daemon are refused",
    arguments: [
      ("startup-timeout: 0s", "`0s` is out of range"), ("stop-timeout: infinity", "`infinity` is out of range"),
      ("stop-timeout:", "the value is missing: a duration such as `10s` is expected"),
      ("defaults: [a]", "`defaults` is a mapping of keys and values, not a list"),
      ("defaults: { read-only: no }", "`no` is neither `true` nor `false`"),
      ("defaults: { reed-only: true }", "unknown key `reed-only`"),
      ("defaults: {}\ndefaults: {}", "`defaults` is given twice"),
    ])
  func badDaemon(text: String, message: String) {
    #expect(load(("nbdattachd.yaml", text)).diagnostics.map(\.message) == [message])
  }
}
