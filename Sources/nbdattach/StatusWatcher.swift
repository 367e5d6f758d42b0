import Control
import FoundationEssentials
import Glibc

/// Shows the status again and again, until a signal ends the program. A daemon that goes away is waited for.
struct StatusWatcher {
  let name: String?
  let daemon: DaemonQuestion

  /// Fills a terminal with the status, once a second.
  func redraw(_ first: StatusDocument) -> Never {
    var answer: Result<StatusDocument, ControlError> = .success(first)
    while true {
      let lines = self.lines(answer)
      // From the upper left corner, each line to its end and cut there, and what is below: nothing flickers or scrolls.
      let text = "\u{1b}[H\u{1b}[?7l" + lines.map { $0 + "\u{1b}[K\n" }.joined() + "\u{1b}[?7h\u{1b}[J"
      put(text)
      answer = ask()
    }
  }

  /// Prints a line for each attachment, then one for each change.
  func printChanges(since first: StatusDocument) -> Never {
    var changes = StatusChanges()
    var answer: Result<StatusDocument, ControlError> = .success(first)
    while true {
      for line in changes.lines(answer, now: now) { put(line + "\n") }
      answer = ask()
    }
  }

  private var now: Double { Date.now.timeIntervalSince1970 }

  private func lines(_ answer: Result<StatusDocument, ControlError>) -> [String] {
    let size = terminalHeight
    let lines =
      switch answer {
      case .success(let document): document.lines(only: name, now: now)
      case .failure(let error): [error.description] + (error.hint.map { ["hint: " + $0] } ?? [])
      }
    // More would scroll, and leave the upper part behind.
    return lines.count < size ? lines : lines.prefix(max(1, size - 2)) + ["…"]
  }

  /// After a second.
  private func ask() -> Result<StatusDocument, ControlError> {
    sleep(1)
    do throws(ControlError) { return .success(try ControlClient(path: daemon.socket).status(of: name)) } catch {
      return .failure(error)
    }
  }

  private var terminalHeight: Int {
    var size = winsize()
    return ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0 && size.ws_row > 0 ? Int(size.ws_row) : 24
  }

  /// Past the library's buffer, so that each change is there at once, whatever reads it.
  private func put(_ text: String) {
    let bytes = Array(text.utf8)
    var written = 0
    while written < bytes.count {
      let count = bytes[written...].withUnsafeBytes { write(STDOUT_FILENO, $0.baseAddress, $0.count) }
      if count < 0 && errno != EINTR { exit(errno == EPIPE ? EXIT_SUCCESS : EXIT_FAILURE) }
      written += max(0, count)
    }
  }
}
