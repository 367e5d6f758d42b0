import AttachmentModel
import Configuration
import Foundation
import TLS
import Testing

@Suite("what is right of a configuration with mistakes")
struct SoundTests {
  private func names(_ loaded: LoadedConfiguration) -> [String] { loaded.sound.attachments.map(\.name) }

  @Test("an attachment with an error leaves the others alone")
  func oneBad() {
    let loaded = load(
      ("a.yaml", "attachments:\n  good: {uri: nbd://a}\n  bad: {uri: nbd://b, conect-timeout: 1s}\n"),
      ("b.yaml", "attachments:\n  other: {uri: nbd://c}\n"))
    #expect(loaded.configuration == nil)
    #expect(names(loaded) == ["good", "other"])
  }

  @Test("a wrong key file is an error, and its attachment is declared all the same: it waits until the file is right")
  func wrongKeyFile() {
    let loaded = load(
      ("a.yaml", "attachments:\n  a: {uri: nbds://a, tls: {certificate-file: /c, key-file: /k}}\n"),
      credentials: { _ in [.file(.key, path: "/k", .keyMismatch)] })
    #expect(loaded.configuration == nil && loaded.errorCount == 1)
    #expect(names(loaded) == ["a"])
  }

  @Test(
    "the same of a key file that others can read or change, or that is none",
    arguments: [
      KeyFileStatus.file(owner: 0, mode: 0o644), .file(owner: 4711, mode: 0o600), .unusable("not a regular file"),
    ])
  func exposedKeyFile(status: KeyFileStatus) {
    let loaded = load(
      ("a.yaml", "attachments:\n  a: {uri: nbds://a, tls: {psk-file: /k}}\n  b: {uri: 'nbds://b?tls-psk-file=/k'}\n"),
      keyFiles: { _ in status })
    #expect(loaded.configuration == nil && loaded.errorCount == 2)
    #expect(names(loaded) == ["a", "b"])
  }

  @Test("a file that is no YAML leaves the other files alone")
  func badFile() {
    let loaded = load(("a.yaml", "attachments: ["), ("b.yaml", "attachments:\n  other: {uri: nbd://c}\n"))
    #expect(loaded.configuration == nil)
    #expect(names(loaded) == ["other"])
  }

  @Test("of two with one name, or one device, neither is right")
  func contradictions() {
    let loaded = load(
      ("a.yaml", "attachments:\n  twice: {uri: nbd://a}\n  first: {uri: nbd://a, device: /dev/nbd3}\n"),
      (
        "b.yaml",
        "attachments:\n  twice: {uri: nbd://b}\n  second: {uri: nbd://b, device: /dev/nbd3}\n  c: {uri: nbd://c}\n"
      ))
    #expect(names(loaded) == ["c"])
  }

  @Test("nothing is right under defaults that can't be relied on")
  func badDefaults() {
    let loaded = load(
      ("nbdattachd.yaml", "defaults: {read-only: yse}\n"), ("a.yaml", "attachments:\n  a: {uri: nbd://a}\n"))
    #expect(names(loaded) == [])
  }

  @Test("nor under those of a file that can't be read")
  func unreadableDefaults() throws {
    let directory = FileManager.default.temporaryDirectory.appending(path: "sound-\(UUID().uuidString)")
    try FileManager.default.createDirectory(
      at: directory.appending(path: "nbdattachd.yaml"), withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    try Data("attachments:\n  a: {uri: nbd://a}\n".utf8).write(to: directory.appending(path: "a.yaml"))
    let loaded = ConfigurationLoader.load(
      ConfigurationPaths(
        daemonFile: directory.appending(path: "nbdattachd.yaml").path, directories: [directory.path]))
    #expect(loaded.errorCount > 0)
    #expect(names(loaded) == [])
  }

  @Test("without a mistake everything is right")
  func allGood() {
    let loaded = load("attachments:\n  a: {uri: nbd://a}\n  b: {uri: nbd://b}\n")
    #expect(loaded.configuration == loaded.sound)
  }
}
