import TLS

/// Reads the configuration: every file, every error.
///
/// Bounded whatever the files hold: 4 MiB and 200,000 keys and values for each file, 10,000 entries for each
/// directory, 64 MiB in all, 100 errors and 100 warnings kept.
package enum ConfigurationLoader {
  /// Most bytes of all files together.
  static let maximumTotal = 64 << 20

  /// Reads the files that `paths` names.
  package static func load(_ paths: ConfigurationPaths) -> LoadedConfiguration {
    var gathering = Gathering()
    if let file = paths.daemonFile { gathering.addFile(file, mustExist: false) }
    let isDaemonFileUnreadable = gathering.diagnostics.errorCount > 0
    for directory in paths.directories { gathering.addDirectory(directory, mustExist: false) }
    for path in paths.named { gathering.addNamed(path) }
    return load(
      gathering.files, met: gathering.paths, diagnostics: gathering.diagnostics,
      secrets: SecretFiles(status: FileSystem.keyFileStatus, problems: TLSCredentials.problems),
      isDaemonFileUnsound: isDaemonFileUnreadable)
  }

  /// Reads texts instead of files, in the order given but the daemon's first. `keyFiles` stands for the files with
  /// secrets, `credentials` for what is in them.
  package static func load(
    files: [ConfigurationFile], keyFiles: @escaping KeyFileInspector = { _ in .file(owner: 0, mode: 0o600) },
    credentials: @escaping CredentialInspector = { _ in [] }
  ) -> LoadedConfiguration {
    load(
      files, met: files.map(\.path), diagnostics: Diagnostics(),
      secrets: SecretFiles(status: keyFiles, problems: credentials))
  }

  private static func load(
    _ files: [ConfigurationFile], met paths: [String], diagnostics: Diagnostics, secrets: SecretFiles,
    isDaemonFileUnsound: Bool = false
  ) -> LoadedConfiguration {
    var reader = ConfigurationReader(files: secrets)
    reader.isDaemonFileUnsound = isDaemonFileUnsound
    reader.diagnostics = diagnostics
    let ordered = files.filter(\.isDaemonFile) + files.filter { !$0.isDaemonFile }
    for file in ordered { reader.read(file) }
    return LoadedConfiguration(
      configuration: reader.diagnostics.errorCount == 0 ? reader.configuration : nil, sound: reader.sound,
      diagnostics: reader.diagnostics.sorted(files: paths),
      errorCount: reader.diagnostics.errorCount, warningCount: reader.diagnostics.warningCount,
      fileCount: files.count, attachmentCount: reader.attachmentCount)
  }
}

/// Collects the files, and what is wrong with finding and reading them.
private struct Gathering {
  var files: [ConfigurationFile] = []
  /// Of every file met, in their order, those that could not be read included.
  var paths: [String] = []
  var diagnostics = Diagnostics()
  private var total = 0

  mutating func addFile(_ path: String, mustExist: Bool) {
    paths.append(path)
    do throws(FileSystem.Failure) {
      let bytes = try FileSystem.read(path, limit: SourceFile.maximumSize)
      total += bytes.count
      guard total <= ConfigurationLoader.maximumTotal else {
        diagnostics.report(file: path, "all files together are larger than 64MiB")
        return
      }
      files.append(ConfigurationFile(path: path, bytes: bytes))
    } catch {
      if error.isMissing, !mustExist { return }
      diagnostics.report(file: path, "the file can't be read: \(error.reason)")
    }
  }

  mutating func addDirectory(_ path: String, mustExist: Bool) {
    do throws(FileSystem.Failure) {
      for name in try FileSystem.names(in: path) {
        let file = path.hasSuffix("/") ? path + name : "\(path)/\(name)"
        if name.hasSuffix(".yaml") {
          addFile(file, mustExist: true)
        } else if name.hasSuffix(".yml") {
          paths.append(file)
          diagnostics.report(
            .warning, file: file, "the file is not read: its name does not end with `.yaml`",
            hint: "rename it, or move it elsewhere")
        }
      }
    } catch {
      if error.isMissing, !mustExist { return }
      diagnostics.report(file: path, "the directory can't be read: \(error.reason)")
    }
  }

  mutating func addNamed(_ path: String) {
    do throws(FileSystem.Failure) {
      guard try FileSystem.kind(path) == .directory else { return addFile(path, mustExist: true) }
    } catch {
      diagnostics.report(file: path, "it can't be read: \(error.reason)")
      return
    }
    let directory = path.hasSuffix("/") ? String(path.dropLast()) : path
    let attachments = "\(directory)/attachments.d"
    let hasAttachments = (try? FileSystem.kind(attachments)) == .directory
    addDirectory(directory, mustExist: true)
    if hasAttachments { addDirectory(attachments, mustExist: true) }
  }
}
