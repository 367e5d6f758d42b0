import AttachmentModel
import Testing

@testable import Configuration

@Suite("Keys together")
struct CombinationTests {
  @Test("what the relay makes possible is taken, on the classic interface too")
  func relay() throws {
    let lines = [
      "uri: [nbd://h, nbd://i]", "datapath: relay", "kernel-interface: ioctl", "connections: 4",
      "reconnect-timeout: 1h", "unflushed-limit: 1MiB", "request-timeout: 30s", "fence-timeout: 2min", "fail-back: 1h",
    ]
    let loaded = load("attachments:\n  x:\n" + lines.map { "    \($0)\n" }.joined())
    let spec = try #require(loaded.configuration?.attachments.first)
    #expect(spec.isRelayed && spec.connections == 4 && spec.reconnectTimeout == .seconds(3600))
    #expect(spec.unflushedLimit == 1 << 20 && spec.fenceTimeout == .seconds(120) && spec.failBack == .seconds(3600))
  }

  @Test("what netlink makes possible is taken")
  func netlink() throws {
    let lines = ["uri: nbd://h", "kernel-interface: netlink", "connections: 2", "reconnect-timeout: infinity"]
    let loaded = load("attachments:\n  x:\n" + lines.map { "    \($0)\n" }.joined())
    let spec = try #require(loaded.configuration?.attachments.first)
    #expect(spec.kernelInterface == .netlink && spec.connections == 2 && spec.reconnectTimeout == nil)
  }

  @Test("what TLS in the kernel needs is taken")
  func kernelTLS() throws {
    let lines = ["uri: [nbds://h, nbds://i]", "datapath: ktls", "tls: { priority: NORMAL }"]
    let loaded = load("attachments:\n  x:\n" + lines.map { "    \($0)\n" }.joined())
    let spec = try #require(loaded.configuration?.attachments.first)
    #expect(spec.datapath == .ktls && !spec.isRelayed && spec.tls?.priority == "NORMAL")
  }

  @Test("values are checked under `defaults` too")
  func defaults() {
    let loaded = load(("nbdattachd.yaml", "defaults:\n  tls: { ca-file: ca.pem }\n"))
    #expect(
      loaded.places == ["2:19 `ca.pem` is not an absolute path"])
  }

  @Test("every key is read")
  func everyKey() {
    var reader = AttachmentDraft(spec: AttachmentSpec(name: "x", servers: []))
    var diagnostics = Diagnostics()
    let source = SourceFile(
      path: "a",
      bytes: Array(
        """
        connections: 4
        kernel-interface: netlink
        datapath: relay
        unflushed-limit: 1GiB
        reconnect-timeout: 1h
        tls: { ca-file: /a, certificate-file: /b, key-file: /c, server-name: d, psk-file: /e, psk-identity: f }
        """.utf8))
    YAMLDocument(source, &diagnostics)?.root?.read(
      attachmentKeys, into: &reader, &diagnostics, unknown: { _ in nil }, given: { _, _, _, _ in })
    #expect(reader.spec.connections == 4)
    #expect(reader.spec.kernelInterface == .netlink)
    #expect(reader.spec.datapath == .relay)
    #expect(reader.spec.unflushedLimit == 1 << 30)
    #expect(reader.spec.reconnectTimeout == .seconds(3600))
    let tls = reader.spec.tls
    #expect([tls?.caFile, tls?.certificateFile, tls?.keyFile] == ["/a", "/b", "/c"])
    #expect([tls?.serverName, tls?.pskFile, tls?.pskIdentity] == ["d", "/e", "f"])
  }

  @Test(
    "keys that contradict each other are refused",
    arguments: [
      (["uri: nbd://h", "tls: { ca-file: /c }"], "`tls` means nothing for a URI without TLS"),
      (["uri: [nbd://h, nbds://i]"], "servers with and without TLS in one list"),
      (["uri: nbds://h", "tls: { certificate-file: /c }"], "`certificate-file` needs `key-file` beside it"),
      (["uri: nbds://h", "tls: { key-file: /c }"], "`key-file` needs `certificate-file` beside it"),
      (["uri: nbds://h", "tls: { psk-identity: a }"], "`psk-identity` needs `psk-file` beside it"),
      (["uri: nbds://h", "tls: { psk-file: /a, ca-file: /b }"], "`psk-file` and `ca-file` exclude each other"),
      (
        ["uri: nbds://h", "tls: { psk-file: /a, certificate-file: /b, key-file: /c }"],
        "`psk-file` and `certificate-file` exclude each other"
      ), (["uri: nbds+unix:///?socket=/s"], "no name to compare the server's certificate with"),
      (["uri: nbds+vsock://2"], "no name to compare the server's certificate with"),
      (
        ["uri: nbds://h?tls-hostname=a", "tls: { server-name: b }"],
        "`tls-hostname` in the URI and `tls.server-name` say the same thing"
      ),
      (
        ["uri: nbds://al@h", "tls: { psk-file: /a, psk-identity: b }"],
        "the user name in the URI and `tls.psk-identity` say the same thing"
      ),
      (["uri: nbds://h?tls-certificates=certs"], "`tls-certificates` is not an absolute path"),
      (["uri: nbd://h", "datapath: ktls"], "`datapath: ktls` needs TLS, and the URI has none"),
      (
        ["uri: nbds+unix:///?socket=/s&tls-hostname=a", "datapath: ktls"],
        "`datapath: ktls` needs TCP: the kernel has no TLS over other sockets"
      ),
      (
        ["uri: ['nbds://h', 'nbds+vsock://2?tls-hostname=a']", "datapath: ktls"],
        "`datapath: ktls` needs TCP: the kernel has no TLS over other sockets"
      ),
      (
        ["uri: nbds://h", "datapath: ktls", "unflushed-limit: 1MiB"],
        "only the relay keeps unflushed writes, and `datapath` is `ktls`"
      ),
      (
        ["uri: nbds://h", "datapath: direct"],
        "`datapath: direct` can't carry TLS: the kernel speaks to the server itself"
      ),
      (
        ["uri: nbd://h", "datapath: direct", "unflushed-limit: 1MiB"],
        "only the relay keeps unflushed writes, and `datapath` is `direct`"
      ),
      (
        ["uri: nbd://h", "datapath: direct", "kernel-interface: ioctl", "reconnect-timeout: 1min"],
        "nothing holds I/O with `kernel-interface: ioctl` and `datapath: direct`"
      ),
      (
        ["uri: nbd://h", "datapath: direct", "kernel-interface: ioctl", "connections: 2"],
        "`kernel-interface: ioctl` has one connection only without the relay"
      ),
      (
        ["uri: nbd://h", "datapath: direct", "kernel-interface: ioctl", "fail-back: 1h"],
        "`kernel-interface: ioctl` can't change its connection without the relay"
      ),
      (
        ["uri: nbd://h", "datapath: direct", "fence-timeout: 1min"],
        "only the relay waits for what a silent server holds, and `datapath` is `direct`"
      ),
      (
        ["uri: nbd://h", "retry: { initial: 31s }"],
        "the first pause between tries, 31s, is longer than the longest, 30s"
      ),
      (
        ["uri: nbd://h", "retry: { maximum: 50ms }"],
        "the first pause between tries, 100ms, is longer than the longest, 50ms"
      ),
    ])
  func contradictions(lines: [String], message: String) {
    let loaded = load("attachments:\n  x:\n" + lines.map { "    \($0)\n" }.joined())
    #expect(loaded.diagnostics.map(\.message) == [message])
  }

  @Test("a TLS server on a Unix socket is fine with a name, with keys, or told not to check")
  func unixTLS() {
    for (uri, tls) in [
      ("nbds+unix:///?socket=/s", "{ server-name: a }"), ("nbds+unix:///?socket=/s", "{ psk-file: /a }"),
      ("nbds+unix:///?socket=/s&tls-verify-peer=0", "{ ca-file: /a }"),
      ("nbds+unix:///?socket=/s&tls-hostname=a", "{ ca-file: /a }"),
    ] {
      #expect(loadAttachment("uri: '\(uri)'", "tls: \(tls)").diagnostics.allSatisfy { $0.severity == .warning })
    }
  }

  @Test("an interface that can't hold I/O may say that it does not")
  func noHolding() {
    for datapath in ["auto", "direct"] {
      let lines = ["uri: nbd://h", "kernel-interface: ioctl", "reconnect-timeout: 0s", "datapath: \(datapath)"]
      #expect(load("attachments:\n  x:\n" + lines.map { "    \($0)\n" }.joined()).diagnostics.isEmpty)
    }
  }

  @Test("`tls` among the defaults is dropped where the URI has none")
  func tlsDefaults() {
    let loaded = load(
      ("nbdattachd.yaml", "defaults: { tls: { ca-file: /c } }\n"),
      ("a.yaml", "attachments: { x: { uri: nbd://h }, y: { uri: nbds://h } }\n"))
    #expect(loaded.diagnostics.isEmpty)
  }

  @Test("secrets that everybody can read are refused, missing ones are warned of")
  func keyFiles() {
    let text = """
      attachments:
        x:
          uri: nbds://h
          tls: { certificate-file: /cert, key-file: /key }
      """
    func messages(_ status: KeyFileStatus) -> [String] {
      load(("a.yaml", text), keyFiles: { $0 == "/key" ? status : .file(owner: 0, mode: 0o600) }).diagnostics
        .map { "\($0.severity) \($0.line):\($0.column) \($0.message)" }
    }
    #expect(messages(.file(owner: 0, mode: 0o600)).isEmpty)
    #expect(messages(.file(owner: 0, mode: 0o400)).isEmpty)
    #expect(
      messages(.file(owner: 0, mode: 0o640)) == ["error 4:47 a group of users can read or change the secret in `/key`"])
    #expect(
      messages(.file(owner: 4711, mode: 0o600)) == [
        "error 4:47 `/key` belongs to another user (number 4711), who can read and change the secret"
      ])
    for mode in [0o644, 0o602, 0o777] as [UInt32] {
      #expect(messages(.file(owner: 0, mode: mode)) == ["error 4:47 everybody can read or change the secret in `/key`"])
    }
    #expect(messages(.missing) == ["warning 4:47 there is no file `/key`"])
    #expect(messages(.unusable("not a regular file")) == ["error 4:47 `/key` can't be used: not a regular file"])
    #expect(messages(.hidden("Permission denied")) == ["warning 4:47 `/key` can't be read: Permission denied"])
  }
}
