import AttachmentModel
import Testing

@Suite("NBD URIs")
struct ServerURITests {
  @Test(
    "the specification's examples name the exports that it says",
    arguments: [
      ("nbd://example.com/disk", "disk"), ("nbd+unix:///disk?socket=sock", "disk"), ("nbd://example.com/", ""),
      ("nbd://example.com", ""), ("nbd://example.com//disk", "/disk"),
      ("nbd://example.com/hello%20world", "hello world"), ("nbd://example.com/a/b", "a/b"),
      ("nbd://example.com/gr%C3%B6%C3%9Fe", "größe"), ("nbd://example.com/a+b", "a+b"),
    ])
  func exportNames(text: String, name: String) throws {
    #expect(try ServerURI(parsing: text).exportName == name)
  }

  @Test("every scheme is read, in any case")
  func schemes() throws {
    let socket = ServerAddress.unix(path: "/run/s")
    let expected: [(String, ServerAddress, Bool)] = [
      ("nbd://h", .tcp(host: "h", port: 10809), false), ("NBDS://h", .tcp(host: "h", port: 10809), true),
      ("nbd+unix:///?socket=/run/s", socket, false), ("Nbds+Unix:///?socket=/run/s", socket, true),
      ("nbd+vsock:///", .vsock(cid: 2, port: 10809), false), ("nbds+vsock://7:99/x", .vsock(cid: 7, port: 99), true),
    ]
    for (text, address, usesTLS) in expected {
      let uri = try ServerURI(parsing: text)
      #expect(uri.address == address)
      #expect(uri.usesTLS == usesTLS)
    }
  }

  @Test(
    "hosts and ports are read",
    arguments: [
      ("nbd://h:1/", ServerAddress.tcp(host: "h", port: 1)), ("nbd://h:65535", .tcp(host: "h", port: 65535)),
      ("nbd://h:/x", .tcp(host: "h", port: 10809)), ("nbd://192.0.2.1:10", .tcp(host: "192.0.2.1", port: 10)),
      ("nbd://[::1]", .tcp(host: "::1", port: 10809)), ("nbd://[2001:db8::1]:10", .tcp(host: "2001:db8::1", port: 10)),
      ("nbd://[fe80::1%25eth0]/x", .tcp(host: "fe80::1%eth0", port: 10809)),
      ("nbd://[::ffff:192.0.2.1]/x", .tcp(host: "::ffff:192.0.2.1", port: 10809)),
      ("nbd://[1:2:3:4:5:6:7:8]/x", .tcp(host: "1:2:3:4:5:6:7:8", port: 10809)),
      ("nbd://a_b-c.example./x", .tcp(host: "a_b-c.example.", port: 10809)),
    ])
  func hosts(text: String, address: ServerAddress) throws {
    #expect(try ServerURI(parsing: text).address == address)
  }

  @Test("a socket may be abstract, and its name has at most 107 bytes")
  func sockets() throws {
    let abstract = try ServerURI(parsing: "nbd+unix:///?socket=%00/abstract")
    #expect(abstract.address == .unix(path: "/abstract", isAbstract: true))
    let longest = "/" + String(repeating: "s", count: 106)
    #expect(try ServerURI(parsing: "nbd+unix:///x?socket=\(longest)").address == .unix(path: longest))
    #expect(throws: TextError.self) { try ServerURI(parsing: "nbd+unix:///x?socket=\(longest)s") }
  }

  @Test("user name and TLS parameters are read and decoded")
  func tlsParameters() throws {
    let uri = try ServerURI(
      parsing: "nbds://al%20ice@h/x?tls-type=x509&tls-hostname=other&tls-verify-peer=1&tls-certificates=/a%20b")
    #expect(uri.userName == "al ice")
    #expect(
      uri.tlsParameters == [
        "tls-type": "x509", "tls-hostname": "other", "tls-verify-peer": "1", "tls-certificates": "/a b",
      ])
    #expect(try ServerURI(parsing: "nbds+unix://alice@/?socket=/s").userName == "alice")
  }

  @Test(
    "what is wrong is named by its part and its bytes",
    arguments: [
      ("", TextError.Part.whole, ""), ("data", .scheme, "data"), ("/run/s", .scheme, "/run/s"),
      ("localhost:10809", .scheme, "localhost:10809"), ("http://h/x", .scheme, "http"), ("ndb://h", .scheme, "ndb"),
      ("nbd:h", .scheme, "nbd:"), ("nbd:///x", .host, ""), ("nbd://h:0/x", .port, "0"),
      ("nbd://h:65536", .port, "65536"),
      ("nbd://h:x/", .port, "x"), ("nbd://::1/x", .host, "::1"), ("nbd://[::1/x", .host, "[::1"),
      ("nbd://[::1]x/", .port, "x"), ("nbd://[1:2]/", .host, "1:2"), ("nbd://[::1::]/", .host, "::1::"),
      ("nbd://[1:2:3:4:5:6:7::8]/", .host, "1:2:3:4:5:6:7::8"), ("nbd://[fe80::1%eth0]/", .whole, "%et"),
      ("nbd://[::1%25]/", .host, "::1%25"), ("nbd://1.2.3/", .host, "1.2.3"), ("nbd://256.1.1.1", .host, "256.1.1.1"),
      ("nbd://1.2.3.04", .host, "1.2.3.04"), ("nbd://a..b/", .host, "a..b"), ("nbd://a%00b/", .host, "a%00b"),
      ("nbd://a~b/", .host, "a~b"), ("nbd://h/a%00b", .exportName, "a%00b"), ("nbd://h/%FF", .exportName, "%FF"),
      ("nbd://h/a b", .whole, " "), ("nbd://h/ö", .whole, "ö"), ("nbd://h/%4", .whole, "%4"),
      ("nbd://h/%", .whole, "%"),
      ("nbd://h/%zz", .whole, "%zz"), ("nbd://h/a#b", .whole, "#b"), ("nbd://h/[x]", .whole, "["),
      ("nbd://h/x\u{1}", .whole, "\u{1}"), (" nbd://h", .whole, " nbd://h"),
      ("nbd://h/x?foo=1", .parameter, "foo"), ("nbds://h/x?tls-typ=psk", .parameter, "tls-typ"),
      ("nbd://h/x?socket=/s", .parameter, "socket=/s"), ("nbd+unix:///x", .parameter, ""),
      ("nbd+unix:///x?socket=", .parameter, ""), ("nbd+unix:///x?socket", .parameter, ""),
      ("nbd+unix:///?socket=%00", .parameter, "%00"), ("nbd+unix:///?socket=a%00", .parameter, "a%00"),
      ("nbd+unix:///?socket=/a&socket=/a", .parameter, "socket=/a"), ("nbd+unix://h/?socket=/s", .host, "h"),
      ("nbd://al@h/", .userName, "al"), ("nbd://h/?tls-type=psk", .parameter, "tls-type=psk"),
      ("nbds://h/?tls-type=x", .parameter, "x"), ("nbds://h/?tls-verify-peer=yes", .parameter, "yes"),
      ("nbds://h/?tls-hostname=", .parameter, ""), ("nbds://h/?tls-hostname=a/b", .parameter, "a/b"),
      (
        "nbds://h/?tls-psk-file=/k&tls-certificates=/c", .parameter, "tls-psk-file=/k&tls-certificates=/c"
      ), ("nbds://h/?tls-psk-file=/k&tls-type=x509", .parameter, "tls-psk-file=/k&tls-type=x509"),
      ("nbd+vsock://host/", .host, "host"), ("nbd+vsock://2:0/", .port, "0"),
      ("nbd+vsock://4294967295/", .host, "4294967295"), ("nbd+vsock://99999999999/", .host, "99999999999"),
    ])
  func errors(text: String, part: TextError.Part, bytes: String) {
    do throws(TextError) {
      _ = try ServerURI(parsing: text)
      Issue.record("\(text) was read")
    } catch {
      #expect(error.part == part)
      let utf8 = Array(text.utf8)
      #expect(error.range.lowerBound >= 0 && error.range.upperBound <= utf8.count)
      #expect(String(decoding: utf8[error.range], as: UTF8.self) == bytes)
    }
  }

  @Test(
    "a hint says what to write instead",
    arguments: [
      ("storage:10809", "write `nbd://storage:10809`"),
      ("/run/s", "a Unix socket is written `nbd+unix:///?socket=/run/s`"),
      ("ndb://h", "did you mean `nbd`?"), ("nbd://::1/x", "an IPv6 address stands in brackets: `[::1]`"),
      ("nbd://[fe80::1%eth0]/", "the zone of an IPv6 address is written `%25eth0`"),
      ("nbd://h/größe", "write it as `%C3%B6`"), ("nbds://h/?tls-hostnam=x", "did you mean `tls-hostname`?"),
      ("nbd://h/?tls-type=psk", "write `nbds://`"),
    ])
  func hints(text: String, hint: String) {
    #expect(throws: TextError.self) { try ServerURI(parsing: text) }
    do throws(TextError) { _ = try ServerURI(parsing: text) } catch { #expect(error.hint == hint) }
  }

  @Test("export names of 4096 bytes are taken, longer ones and longer URIs are not")
  func lengths() throws {
    let longest = String(repeating: "%C3%B6", count: 2048)
    #expect(try ServerURI(parsing: "nbd://h/\(longest)").exportName.utf8.count == 4096)
    #expect(throws: TextError.self) { try ServerURI(parsing: "nbd://h/\(longest)x") }
    #expect(throws: TextError.self) { try ServerURI(parsing: "nbd://h/" + String(repeating: "x", count: 20_000)) }
  }

  @Test("what was written is read back equal")
  func roundTrip() throws {
    var random = SplitMix(state: 1)
    for _ in 0..<2000 {
      let uri = random.serverURI()
      let again = try ServerURI(parsing: uri.uriString)
      #expect(again == uri, "\(uri.uriString)")
      #expect(again.uriString == uri.uriString)
    }
  }

  @Test("URIs are written in their shortest form")
  func formatting() throws {
    for text in [
      "nbd://h", "nbd://h/x", "nbd://h//disk", "nbd://[::1]:10/a%20b", "nbd+unix:///?socket=/run/nbd.sock",
      "nbds+unix://alice@/x?socket=%00name&tls-type=psk", "nbd+vsock://2", "nbd+vsock://2:7/x",
    ] {
      #expect(try ServerURI(parsing: text).description == text)
    }
    #expect(try ServerURI(parsing: "nbd://h:10809/").description == "nbd://h")
  }

  @Test("no text makes the parser trap, and every error lies within the text")
  func mutations() throws {
    var random = SplitMix(state: 2)
    let pieces = [
      "nbd", "s", "+unix", "+vsock", "://", ":", "/", "?", "&", "=", "%", "%00", "@", "[", "]", "#", "1", "é", "socket",
    ]
    for _ in 0..<20_000 {
      let text = (0..<random.below(10)).map { _ in pieces[random.below(pieces.count)] }.joined()
      do throws(TextError) {
        let uri = try ServerURI(parsing: text)
        #expect(try ServerURI(parsing: uri.uriString) == uri)
      } catch {
        #expect(error.range.lowerBound >= 0 && error.range.upperBound <= text.utf8.count)
      }
    }
  }

  @Test("addresses are told from names")
  func addresses() {
    for host in ["192.0.2.1", "::1", "fe80::1%eth0"] { #expect(HostName.isAddress(host)) }
    for host in ["example.com", "1.2.3", "a.b.c.d", ""] { #expect(!HostName.isAddress(host)) }
  }
}

/// A small generator with a seed, so that a failure repeats.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }

  mutating func below(_ bound: Int) -> Int { Int.random(in: 0..<bound, using: &self) }

  /// Any text without NUL, of 1 to 12 characters.
  mutating func text() -> String {
    let characters = Array("ab/:@?#[]%&=+ ;,\"'\\{}~.-_\u{7F}\u{1F}öß漢😀")
    return String((0...below(12)).map { _ in characters[below(characters.count)] })
  }

  mutating func serverURI() -> ServerURI {
    let addresses: [ServerAddress] = [
      .tcp(host: "storage1.example.com", port: UInt16(1 + below(65_535))), .tcp(host: "192.0.2.1", port: 10809),
      .tcp(host: "2001:db8::1", port: 10809), .tcp(host: "fe80::1%eth0", port: 7), .unix(path: "/run/" + text()),
      .unix(path: text(), isAbstract: true), .vsock(cid: UInt32(below(1 << 31)), port: UInt32(1 + below(1 << 31))),
    ]
    var uri = ServerURI(address: addresses[below(addresses.count)])
    if below(4) > 0 { uri.exportName = text() }
    uri.usesTLS = below(2) == 0
    if uri.usesTLS {
      if below(2) == 0 { uri.userName = text() }
      if below(2) == 0 { uri.tlsParameters["tls-hostname"] = "other.example.com" }
      if below(2) == 0 { uri.tlsParameters["tls-verify-peer"] = "0" }
      if below(2) == 0 { uri.tlsParameters["tls-certificates"] = text() }
    }
    return uri
  }
}
