import AttachmentModel
import Testing

@Suite("Sizes and spans of time as text")
struct UnitTests {
  @Test(
    "sizes are read",
    arguments: [
      ("0", 0), ("512", 512), ("512B", 512), ("4KiB", 4096), ("64MiB", 64 << 20), ("10GiB", 10 << 30),
      ("1TiB", 1 << 40),
      ("2PiB", 2 << 50), ("15EiB", 15 << 60), ("18446744073709551615", UInt64.max), ("010", 10),
    ] as [(String, UInt64)])
  func sizes(text: String, bytes: UInt64) throws {
    #expect(try ByteSize.parse(text) == bytes)
  }

  @Test(
    "what is no size is refused with a hint",
    arguments: [
      ("", nil), ("x", nil), ("-1", nil), ("GiB", nil), ("16EiB", nil), ("18446744073709551616", nil),
      ("10GB", "powers of 1024 are written GiB: `10GiB`"), ("10G", "powers of 1024 are written GiB: `10GiB`"),
      ("10kB", "powers of 1024 are written KiB: `10KiB`"), ("10gib", "powers of 1024 are written GiB: `10GiB`"),
      ("1.5GiB", "write `1536MiB`"), ("0.1GiB", nil), ("1.", nil), ("1.5", nil), ("10 GiB", "write `10GiB`"),
      ("10XiB", "write bytes without a unit, or one of KiB, MiB, GiB, TiB, such as `10GiB`"), ("1e9", nil),
      ("0x10", nil),
      ("+1", nil), ("1,5GiB", nil), ("１０", nil),
    ] as [(String, String?)])
  func badSizes(text: String, hint: String?) {
    do throws(TextError) {
      let bytes = try ByteSize.parse(text)
      Issue.record("\(text) was read as \(bytes)")
    } catch {
      if let hint { #expect(error.hint == hint) }
      #expect(error.range.upperBound <= text.utf8.count)
    }
  }

  @Test("sizes are written so that reading gives them back")
  func sizeRoundTrip() throws {
    var random = SplitMix(state: 3)
    for bytes in [0, 1, 512, 1023, 1024, 1536 << 20, 10 << 30, .max]
      + (0..<1000).map({ _ in random.next() >> random.below(64) })
    {
      #expect(try ByteSize.parse(ByteSize.format(bytes)) == bytes)
    }
    #expect(ByteSize.format(10 << 30) == "10GiB")
    #expect(ByteSize.format(1536 << 20) == "1536MiB")
    #expect(ByteSize.format(1000) == "1000")
  }

  @Test(
    "spans of time are read",
    arguments: [
      ("0s", .zero), ("100ms", .milliseconds(100)), ("10s", .seconds(10)), ("1min", .seconds(60)),
      ("1h", .seconds(3600)),
      ("7d", .seconds(7 * 86_400)), ("infinity", nil),
    ] as [(String, Duration?)])
  func spans(text: String, span: Duration?) throws {
    #expect(try TimeSpan.parse(text) == span)
  }

  @Test(
    "what is no span of time is refused with a hint",
    arguments: [
      ("10", "write `10s`"), ("1m", "write `1min`"), ("5sec", "write `5s`"), ("2hours", "write `2h`"),
      ("1.5s", "write `1500ms`"), ("1.5min", "write `90s`"), ("10 s", "write `10s`"),
      ("forever", "no limit is written `infinity`"),
      ("Infinity", "no limit is written `infinity`"), ("infinty", "no limit is written `infinity`"), ("", nil),
      ("s", nil),
      ("-1s", nil), ("1min30s", "the units are ms, s, min, h and d, such as `10s`"),
      ("4000d", "`infinity` means no limit"),
      ("99999999999999999999s", nil), ("1us", nil), ("0.0001s", nil),
    ] as [(String, String?)])
  func badSpans(text: String, hint: String?) {
    do throws(TextError) {
      let span = try TimeSpan.parse(text)
      Issue.record("\(text) was read as \(TimeSpan.format(span))")
    } catch {
      if let hint { #expect(error.hint == hint) }
      #expect(error.range.upperBound <= text.utf8.count)
    }
  }

  @Test("spans of time are written so that reading gives them back")
  func spanRoundTrip() throws {
    var random = SplitMix(state: 4)
    for _ in 0..<1000 {
      let span = Duration.milliseconds(random.below(1 << 38) >> random.below(38))
      #expect(try TimeSpan.parse(TimeSpan.format(span)) == span)
    }
    #expect(TimeSpan.format(nil) == "infinity")
    #expect(TimeSpan.format(.zero) == "0s")
    #expect(TimeSpan.format(.seconds(90)) == "90s")
    #expect(TimeSpan.format(.seconds(120)) == "2min")
    #expect(TimeSpan.format(.microseconds(1500)) == "1ms")
    #expect(TimeSpan.format(.seconds(-1)) == "0s")
    #expect(TimeSpan.format(.seconds(Int64.max)) == "infinity")
  }
}

@Suite("Names and words")
struct NameTests {
  @Test(
    "names are made of a narrow alphabet",
    arguments: [
      "a", "data", "0", "_x", "a.b-c_D9", "part1", "a_part1", "a-part", "a-part1x", String(repeating: "n", count: 64),
    ])
  func names(name: String) throws {
    try AttachmentSpec.checkName(name)
  }

  @Test(
    "other names are refused",
    arguments: [
      "", ".", "..", ".a", "-a", "a b", "a/b", "ä", "a\0", "a~", "a@b", String(repeating: "n", count: 65), "a-part1",
      "a-part0123456789", "a-part1-part2",
    ])
  func badNames(name: String) {
    #expect(throws: TextError.self) { try AttachmentSpec.checkName(name) }
  }

  @Test("a slip finds the word that was meant, and nothing else does")
  func spelling() {
    let words = ["read-only", "connections", "uri", "reconnect-timeout", "connect-timeout"]
    #expect(Spelling.closest(to: "reconect-timeout", among: words) == "reconnect-timeout")
    #expect(Spelling.closest(to: "readonly", among: words) == "read-only")
    #expect(Spelling.closest(to: "url", among: words) == "uri")
    #expect(Spelling.closest(to: "URI", among: words) == "uri")
    #expect(Spelling.closest(to: "ruI", among: words) == "uri")
    #expect(Spelling.closest(to: "size", among: words) == nil)
    #expect(Spelling.closest(to: "", among: words) == nil)
    #expect(Spelling.closest(to: String(repeating: "x", count: 1 << 20), among: words) == nil)
  }

  @Test("what is quoted cannot act on a terminal")
  func quoting() {
    #expect("a\u{1B}[31m\n\u{202E}b".quoted() == "`a\\u{1b}[31m\\u{a}\\u{202e}b`")
    #expect("abc".quoted(limit: 2) == "`ab…`")
    #expect("größe".quoted() == "`größe`")
  }
}
