import CSystemd
import Glibc

/// Where log entries go.
package enum LogDestination: Equatable, Sendable {
  /// journald, by its native protocol, with every field.
  case journal
  /// A line of text for each entry.
  case standardError

  /// The journal where this process is a service of systemd, else standard error.
  ///
  /// `$JOURNAL_STREAM` names the device and inode of the journal's stream, and proves the case where standard error is
  /// that very file. The other variables are inherited by a shell in a desktop's terminal too, so with them standard
  /// error must not be a terminal.
  package static func detected() -> LogDestination {
    var status = stat()
    let stream = fstat(STDERR_FILENO, &status) == 0 ? "\(status.st_dev):\(status.st_ino)" : nil
    return detected(
      variable: { name in getenv(name).map { String(cString: $0) } }, standardErrorStream: stream,
      isTerminal: isatty(STDERR_FILENO) == 1)
  }

  static func detected(
    variable: (String) -> String?, standardErrorStream: String?, isTerminal: Bool
  ) -> LogDestination {
    if let stream = variable("JOURNAL_STREAM"), stream == standardErrorStream { return .journal }
    let isService = variable("NOTIFY_SOCKET") != nil || variable("INVOCATION_ID") != nil
    return isService && !isTerminal ? .journal : .standardError
  }
}

/// A log: takes entries from any thread, and never fails; it blocks while journald, or standard error, takes no more.
package struct Log: Sendable {
  private let take: @Sendable (JournalEntry) -> Void

  /// A log of one's own, for tests.
  package init(_ take: @escaping @Sendable (JournalEntry) -> Void) { self.take = take }

  /// Entries less urgent than `threshold` are dropped on standard error; the journal gets all.
  package init(_ destination: LogDestination, threshold: JournalEntry.Priority = .info) {
    switch destination {
    case .journal:
      // An entry that the journal refuses is better on standard error than nowhere.
      take = { entry in
        do { try Journal.send(entry) } catch { Log.printLine(entry) }
      }
    case .standardError:
      take = { entry in
        if entry.priority.rawValue <= threshold.rawValue { Log.printLine(entry) }
      }
    }
  }

  package func callAsFunction(_ entry: JournalEntry) { take(entry) }

  package func callAsFunction(
    _ priority: JournalEntry.Priority, _ message: String, id: MessageID? = nil,
    fields: KeyValuePairs<JournalField, String?> = [:]
  ) {
    take(JournalEntry(priority, message, id: id, fields: fields))
  }

  /// One write(2), so that lines of several threads don't mix.
  private static func printLine(_ entry: JournalEntry) {
    let line = Array(entry.line.utf8)
    _ = write(STDERR_FILENO, line, line.count)
  }
}

/// journald, by sd_journal_sendv(3).
package enum Journal {
  /// Sends one entry; where no journald listens it is dropped.
  package static func send(_ entry: JournalEntry) throws(SystemdError) {
    let fields = entry.encoded
    var bytes = fields.flatMap(\.self)
    let result = bytes.withUnsafeMutableBytes { raw in
      var vectors: [iovec] = []
      var offset = 0
      for field in fields {
        vectors.append(iovec(iov_base: raw.baseAddress?.advanced(by: offset), iov_len: field.count))
        offset += field.count
      }
      return sd_journal_sendv(vectors, Int32(vectors.count))
    }
    if result < 0 { throw .journal(code: -result) }
  }
}
