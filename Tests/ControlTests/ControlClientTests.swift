import Foundation
import Glibc
import Testing

@testable import Control

@Suite("asking the daemon")
struct ControlClientTests {
  @Test("a thousand attachments come over whole")
  func thousand() async throws {
    let reports = (0..<1000).map { fullReport("export-\($0)") }
    try await withServer(serving: snapshot(reports)) { path in
      let document = try await blocking { try ControlClient(path: path).status() }
      #expect(document == StatusDocument(snapshot(reports)))
    }
  }

  @Test("one attachment is asked for by name")
  func byName() async throws {
    try await withServer(serving: snapshot([attachedReport("a"), attachedReport("b")])) { path in
      let document = try await blocking { try ControlClient(path: path).status(of: "b") }
      #expect(document.attachments.map(\.name) == ["b"])
      await #expect(throws: ControlError.action(.noSuchAttachment(name: "c"))) {
        try await blocking { try ControlClient(path: path).status(of: "c") }
      }
    }
  }

  @Test("a daemon that does not run is told from one that may not be asked")
  func notRunning() async throws {
    try await withDirectory { directory in
      let path = directory + "/control"
      #expect(throws: ControlError.notRunning(path: path)) { try ControlClient(path: path).status() }
      close(try ListeningSocket(path: path, group: nil).fd)
      #expect(throws: ControlError.notRunning(path: path)) { try ControlClient(path: path).status() }
    }
  }

  @Test("who is neither root nor in the group is told so", .enabled(if: getuid() == 0, "only root can become another"))
  func permissionDenied() async {
    await #expect(processExitsWith: .success) {
      try await withServer { path in
        _ = chmod((path as NSString).deletingLastPathComponent, 0o755)
        let error = try await blocking {
          // Of the whole process; the server listens already.
          let isOther = setgroups(0, nil) == 0 && setegid(65534) == 0 && seteuid(65534) == 0
          defer { seteuid(0) }
          let error = #expect(throws: ControlError.self) { try ControlClient(path: path).status() }
          return isOther ? error : nil
        }
        #expect(error == .permissionDenied(path: path))
      }
    }
  }

  @Test(
    "an answer that makes no sense is an error",
    arguments: [
      ("hello\0", ControlError.malformedReply), ("{}\0", .malformedReply),
      (#"{"parameters":{}}"# + "\0", .malformedReply),
      ("{\"err", .closed), ("", .closed), (#"{"error":"a.b.C"}"# + "\0", .refused(error: "a.b.C")),
      (
        #"{"error":"org.nbdattach.NoSuchAttachment","parameters":{"name":"x"}}"# + "\0",
        .action(.noSuchAttachment(name: "x"))
      ),
      (String(repeating: "x", count: 5000), .replyTooLong),
    ])
  func answers(text: String, error: ControlError) async throws {
    try await withImpostor(answer: text, hangsUp: true) { path in
      await #expect(throws: error) {
        try await blocking { try ControlClient(path: path, replyLimit: 4096).status() }
      }
    }
  }

  @Test("a daemon that does not answer, or not to the end, is given up on", arguments: ["", "{\"par"])
  func timeout(text: String) async throws {
    try await withImpostor(answer: text, hangsUp: false) { path in
      await #expect(throws: ControlError.timedOut) {
        try await blocking { try ControlClient(path: path, timeout: .milliseconds(50)).status() }
      }
    }
  }

  @Test("each error is one line, without control characters, and most say what to do")
  func descriptions() {
    let errors: [ControlError] = [
      .notRunning(path: "/x\n"), .permissionDenied(path: "/x"), .timedOut, .closed, .replyTooLong, .malformedReply,
      .action(.noSuchAttachment(name: "\u{1b}")), .action(.inUse(name: "\n", uses: ["\u{1b}"])), .mayNotChange,
      .action(.failed(name: "a", message: "\n", hint: "b")), .notImplemented(method: "\n"), .refused(error: "\n"),
      .system(call: "bind", path: "/x", code: 13),
      .pathTooLong(path: "/x"), .notASocket(path: "/x"), .alreadyServed(path: "/x"),
    ]
    for error in errors {
      #expect(error.description.unicodeScalars.allSatisfy { $0.value >= 0x20 })
      #expect(error.hint?.isEmpty != true)
    }
    #expect(ControlError.permissionDenied(path: "/x").hint?.contains("group nbdattach") == true)
  }

  /// Something that answers every connection with the same bytes once a call is there.
  private func withImpostor(
    answer: String, hangsUp: Bool, _ body: (String) async throws -> Void
  ) async throws {
    try await withDirectory { directory in
      let path = directory + "/control"
      let listener = try ListeningSocket(path: path, group: nil).fd
      _ = fcntl(listener, F_SETFL, 0)
      let served = Task {
        try await blocking {
          let fd = accept(listener, nil, nil)
          var call = [UInt8](repeating: 0, count: 4096)
          _ = read(fd, &call, call.count)
          let bytes = Array(answer.utf8)
          _ = send(fd, bytes, bytes.count, Int32(MSG_NOSIGNAL))
          // Without a hang-up: until the client leaves.
          if !hangsUp { _ = read(fd, &call, call.count) }
          close(fd)
        }
      }
      try await body(path)
      try await served.value
      close(listener)
    }
  }
}
