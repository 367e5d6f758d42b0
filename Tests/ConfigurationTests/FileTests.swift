import AttachmentModel
import Foundation
import Glibc
import Testing

@testable import Configuration

/// A directory that is removed with the value.
final class Directory {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "configuration-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func write(_ name: String, _ text: String) throws {
    let file = "\(path)/\(name)"
    try FileManager.default.createDirectory(
      atPath: (file as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
    try Data(text.utf8).write(to: URL(fileURLWithPath: file))
  }

  var standard: ConfigurationPaths {
    ConfigurationPaths(
      daemonFile: path + "/etc/nbdattachd.yaml",
      directories: [path + "/etc/attachments.d", path + "/run/attachments.d"])
  }
}

@Suite("Finding the files")
struct FileTests {
  @Test("nothing at all is an empty configuration")
  func nothing() throws {
    let loaded = ConfigurationLoader.load(try Directory().standard)
    #expect(loaded.configuration == Configuration())
    #expect(loaded.summary == "0 attachments in 0 files: no errors")
  }

  @Test("files are read in the order of their names, one directory after the other")
  func order() throws {
    let directory = try Directory()
    for name in ["etc/attachments.d/b.yaml", "etc/attachments.d/a.yaml", "run/attachments.d/0.yaml"] {
      try directory.write(name, "attachments: { same: { uri: nbd://h } }\n")
    }
    let loaded = ConfigurationLoader.load(directory.standard)
    #expect(loaded.fileCount == 3)
    #expect(
      loaded.diagnostics.map { String($0.file.dropFirst(directory.path.count)) } == [
        "/etc/attachments.d/b.yaml", "/run/attachments.d/0.yaml",
      ])
    #expect(
      loaded.diagnostics.allSatisfy { $0.hint == "it is defined first at \(directory.path)/etc/attachments.d/a.yaml:1" }
    )
  }

  @Test("only *.yaml is read; *.yml gets a warning, hidden and other files nothing")
  func names() throws {
    let directory = try Directory()
    try directory.write("etc/attachments.d/a.yaml", "attachments: { a: { uri: nbd://h } }\n")
    for name in ["b.yml", ".c.yaml", "d.yaml~", "e.yaml.example", "README"] {
      try directory.write("etc/attachments.d/" + name, "not: read")
    }
    let loaded = ConfigurationLoader.load(directory.standard)
    #expect(loaded.configuration?.attachments.map(\.name) == ["a"])
    #expect(loaded.diagnostics.map(\.severity) == [.warning])
    #expect(loaded.diagnostics.first?.file.hasSuffix("b.yml") == true)
    #expect(loaded.summary == "1 attachment in 1 file: no errors, 1 warning")
  }

  @Test("what is no regular file is refused, and never waited for")
  func irregular() throws {
    let directory = try Directory()
    try directory.write("etc/attachments.d/a.yaml", "")
    #expect(mkfifo(directory.path + "/etc/attachments.d/b.yaml", 0o600) == 0)
    #expect(symlink("/dev/zero", directory.path + "/etc/attachments.d/c.yaml") == 0)
    #expect(symlink("nowhere", directory.path + "/etc/attachments.d/d.yaml") == 0)
    #expect(symlink("a.yaml", directory.path + "/etc/attachments.d/e.yaml") == 0)
    #expect(mkdir(directory.path + "/etc/attachments.d/f.yaml", 0o700) == 0)
    let loaded = ConfigurationLoader.load(directory.standard)
    #expect(
      loaded.diagnostics.map(\.message) == [
        "the file can't be read: not a regular file", "the file can't be read: not a regular file",
        "the file can't be read: No such file or directory", "the file can't be read: not a regular file",
      ])
    #expect(loaded.configuration == nil)
  }

  @Test("a file that can't be read is an error")
  func unreadable() throws {
    let directory = try Directory()
    try directory.write("etc/attachments.d/README", "")
    // Permissions would not stop root; a link to itself stops everybody.
    #expect(symlink("a.yaml", directory.path + "/etc/attachments.d/a.yaml") == 0)
    #expect(symlink("nbdattachd.yaml", directory.path + "/etc/nbdattachd.yaml") == 0)
    #expect(
      ConfigurationLoader.load(directory.standard).diagnostics.map(\.message)
        == Array(repeating: "the file can't be read: Too many levels of symbolic links", count: 2))
  }

  @Test("a file in the place of a directory is an error")
  func noDirectory() throws {
    let directory = try Directory()
    try directory.write("etc/attachments.d", "")
    #expect(
      ConfigurationLoader.load(ConfigurationPaths(named: [directory.path + "/etc/attachments.d/x"])).errorCount == 1)
    #expect(ConfigurationLoader.load(ConfigurationPaths(named: [directory.path + "/nowhere"])).errorCount == 1)
  }

  @Test("a large file is not read beyond the limit")
  func large() throws {
    let directory = try Directory()
    try directory.write("a.yaml", "")
    #expect(truncate(directory.path + "/a.yaml", 1 << 40) == 0)
    let loaded = ConfigurationLoader.load(ConfigurationPaths(named: [directory.path + "/a.yaml"]))
    #expect(loaded.diagnostics.map(\.message) == ["the file is larger than 4MiB"])
  }

  @Test("a directory that is named may be one of attachments, or hold everything")
  func named() throws {
    let directory = try Directory()
    try directory.write("etc/nbdattachd.yaml", "defaults: { read-only: true }\n")
    try directory.write("etc/attachments.d/a.yaml", "attachments: { a: { uri: nbd://h } }\n")
    for path in [directory.path + "/etc", directory.path + "/etc/"] {
      let loaded = ConfigurationLoader.load(ConfigurationPaths(named: [path]))
      #expect(loaded.fileCount == 2)
      #expect(loaded.configuration?.attachments.map(\.isReadOnly) == [true])
    }
    let attachments = ConfigurationLoader.load(ConfigurationPaths(named: [directory.path + "/etc/attachments.d"]))
    #expect(attachments.configuration?.attachments.map(\.isReadOnly) == [false])
    let files = ConfigurationLoader.load(
      ConfigurationPaths(named: [directory.path + "/etc/attachments.d/a.yaml", directory.path + "/etc/nbdattachd.yaml"])
    )
    #expect(files.configuration?.attachments.map(\.isReadOnly) == [true])
  }

  @Test("the permission bits of secrets are looked at")
  func secrets() throws {
    let directory = try Directory()
    try directory.write("key", "secret")
    chmod(directory.path + "/key", 0o644)
    #expect(FileSystem.keyFileStatus(directory.path + "/key") == .file(owner: geteuid(), mode: 0o644))
    #expect(FileSystem.keyFileStatus(directory.path + "/none") == .missing)
    #expect(FileSystem.keyFileStatus(directory.path) == .unusable("not a regular file"))
  }

  @Test("loading leaves no descriptor open")
  func descriptors() throws {
    let directory = try Directory()
    try directory.write("etc/attachments.d/a.yaml", "attachments: { a: { uri: nbd://h } }\n")
    func leaked() -> Bool {
      // Of this directory only: other tests run beside this one.
      let links = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
      return links.contains { link in
        (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(link)"))?.hasPrefix(directory.path)
          == true
      }
    }
    _ = ConfigurationLoader.load(directory.standard)
    _ = ConfigurationLoader.load(ConfigurationPaths(named: [directory.path + "/etc"]))
    #expect(!leaked())
  }
}
