import AttachmentModel
import Testing

@testable import Configuration

@Suite("Hostile files")
struct HostileTests {
  private func load(bytes: [UInt8]) -> LoadedConfiguration {
    ConfigurationLoader.load(files: [ConfigurationFile(path: "a.yaml", bytes: bytes)])
  }

  @Test("a file of more than 4 MiB is refused without being read")
  func large() {
    let loaded = load(bytes: [UInt8](repeating: 0x61, count: (4 << 20) + 1))
    #expect(
      loaded.diagnostics.map(\.description) == [
        "a.yaml: error: the file is larger than 4MiB (spread the attachments over several files)"
      ])
  }

  @Test(
    "depth is bounded, whatever makes it",
    arguments: ["[", "- ", "{a: ", "? ", "[[", "- - "])
  func deep(piece: String) {
    let loaded = load(bytes: Array(String(repeating: piece, count: 100_000).utf8))
    #expect(loaded.diagnostics.map(\.message) == ["values are nested deeper than 16 levels"])
  }

  @Test("aliases can't multiply a value")
  func laughs() {
    var text = "a0: &a0 [x, x]\n"
    for level in 1..<30 { text += "a\(level): &a\(level) [*a\(level - 1), *a\(level - 1)]\n" }
    #expect(load(bytes: Array(text.utf8)).diagnostics.map(\.message) == ["anchors such as `&a0` are not read"])
  }

  @Test("keys and values are counted, and 200,000 are enough")
  func nodes() {
    let text = "attachments: [" + String(repeating: "a,", count: 200_100) + "]"
    #expect(
      load(bytes: Array(text.utf8)).diagnostics.map(\.message) == ["the file has more than 200000 keys and values"])
  }

  @Test("100,000 attachments in one file are too many, 5,000 in each of several are not")
  func attachments() {
    func file(_ prefix: String, _ count: Int) -> ConfigurationFile {
      let lines = (0..<count).map { "  \(prefix)\($0): { uri: nbd://h/\($0) }\n" }
      return ConfigurationFile(path: "\(prefix).yaml", bytes: Array(("attachments:\n" + lines.joined()).utf8))
    }
    #expect(ConfigurationLoader.load(files: [file("a", 100_000)]).errorCount == 1)
    let loaded = ConfigurationLoader.load(files: [file("a", 5000), file("b", 5000)])
    #expect(loaded.configuration?.attachments.count == 10_000)
  }

  @Test(
    "no byte that is no text gets through",
    arguments: [
      ([0x61, 0x00], "1:2 the file contains a NUL character"), ([0x23, 0x0A, 0xFF], "2:1 the file is not valid UTF-8"),
      ([0xC3], "1:1 the file is not valid UTF-8"), ([0xED, 0xA0, 0x80], "1:1 the file is not valid UTF-8"),
      ([0xC0, 0x80], "1:1 the file is not valid UTF-8"), ([0xFF, 0xFE, 0x61, 0x00], "1:1 the file is not valid UTF-8"),
      ([0xF5, 0x80, 0x80, 0x80], "1:1 the file is not valid UTF-8"),
      ([0x23, 0x0D, 0x61], "1:2 a carriage return that ends no line"),
      ([0x61, 0x0D], "1:2 a carriage return that ends no line"),
      ([0x61, 0x1B], "1:2 the character U+001B may not stand in a YAML file"),
      ([0x61, 0x7F], "1:2 the character U+007F may not stand in a YAML file"),
      ([0x61, 0xC2, 0x85], "1:2 the character U+0085 may not stand in a YAML file"),
      ([0x61, 0xE2, 0x80, 0xA8], "1:2 the character U+2028 may not stand in a YAML file"),
      ([0x61, 0xEF, 0xBB, 0xBF], "1:2 the character U+FEFF may not stand in a YAML file"),
    ] as [([UInt8], String)])
  func bytes(bytes: [UInt8], place: String) {
    #expect(load(bytes: bytes).places == [place])
  }

  @Test("NULs that only an escape makes are found in names, paths and URIs")
  func escapedNUL() {
    #expect(loadAttachment("uri: \"nbd://h/\\0\"").errorCount == 1)
    #expect(loadAttachment("uri: nbd://h", "device: \"/dev/nbd0\\0\"").errorCount == 1)
    #expect(nameWithNUL().errorCount == 1)
    #expect(loadAttachment("uri: nbds://h", "tls: { ca-file: \"/a\\0b\" }").diagnostics.count == 1)
  }

  private func nameWithNUL() -> LoadedConfiguration {
    load(bytes: Array("attachments: { \"a\\0\": { uri: nbd://h } }".utf8))
  }

  @Test("a value of a megabyte costs no more than its length, and is quoted short")
  func hugeScalar() {
    let loaded = load(bytes: Array(("attachments: " + String(repeating: "x", count: 1 << 20)).utf8))
    #expect(loaded.errorCount == 1)
    #expect((loaded.diagnostics.first?.message.count ?? 0) < 200)
    #expect(loaded.rendered(color: false).count < 1000)
  }

  @Test("a name or a key of a megabyte is quoted short")
  func hugeKey() {
    let key = String(repeating: "k", count: 1 << 20)
    let loaded = load(bytes: Array("attachments: { ? \(key) : { uri: nbd://h, ? \(key) : 1 } }".utf8))
    #expect(loaded.errorCount == 2)
    #expect(loaded.rendered(color: false).count < 2000)
  }

  @Test("directives are refused before libyaml compares them with each other")
  func directives() {
    let text = (0..<50_000).map { "%TAG !a\($0)! x\n" }.joined()
    #expect(load(bytes: Array(text.utf8)).errorCount == 1)
  }

  @Test("no mutation of a good file makes the reader trap, and what it takes it says nothing of")
  func mutations() {
    let good = Array(
      """
      attachments:
        data: # comment
          uri: [nbd://h:1/x, "nbd+unix:///%20?socket=/run/s"]
          device: /dev/nbd0
          retry: { initial: 1s, maximum: 1min }
          tls: { key-file: '/k' }
          expect:
            size: 10GiB
      """.utf8)
    var random = SystemRandomNumberGenerator()
    let pieces: [[UInt8]] =
      [
        "\n", "\t", " ", ":", ": ", "- ", "[", "]", "{", "}", "\"", "'", "#", "&a", "*a", "!", "|", ">", "%", "\0", "é",
        "?", ",", "<<", "---\n",
      ]
      .map { Array($0.utf8) } + [[0xFF], [0xE2, 0x80]]
    for _ in 0..<3000 {
      var bytes = good
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let index = Int.random(in: 0..<bytes.count, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: bytes.remove(at: index)
        case 1: bytes.insert(contentsOf: pieces.randomElement(using: &random) ?? [], at: index)
        default: bytes.removeSubrange(index..<min(bytes.count, index + 9))
        }
        if bytes.isEmpty { break }
      }
      let loaded = load(bytes: bytes)
      #expect((loaded.configuration == nil) == (loaded.errorCount > 0))
      for diagnostic in loaded.diagnostics {
        #expect(diagnostic.line >= 1 && diagnostic.column >= 1, "\(String(decoding: bytes, as: UTF8.self))")
      }
    }
  }
}
