import Foundation
import Glibc
import Synchronization
import Testing

@testable import Control

@Suite("changes over the control socket")
struct ControlActionTests {
  @Test("each call of the client reaches the daemon's action with its parameters, and nothing else")
  func all() async throws {
    let record = Record()
    try await withServer(actions: record.actions()) { path in
      try await blocking {
        let client = ControlClient(path: path)
        try client.start("a", wait: true, timeout: .milliseconds(1500))
        try client.start("b", wait: false, timeout: nil)
        try client.stop("c")
        try client.stop("d", force: true)
        try client.restart("e")
        try client.retry()
        try client.retry("f")
        try client.reconnect("f")
        try client.refresh("g")
        try client.move("h", to: "nbd://i/h")
        try client.acknowledge("j")
        try client.reload()
        try client.endHolding(after: .seconds(10))
      }
    }
    #expect(
      record.changes == [
        .start(name: "a", wait: true, timeout: .milliseconds(1500)), .start(name: "b", wait: false, timeout: nil),
        .stop(name: "c", force: false), .stop(name: "d", force: true), .restart(name: "e"), .retry(name: nil),
        .retry(name: "f"), .reconnect(name: "f"), .refresh(name: "g"), .move(name: "h", uri: "nbd://i/h"),
        .acknowledge(name: "j"), .reload, .endHolding(after: .seconds(10)),
      ])
  }

  @Test(
    "an error of the daemon arrives as it was thrown",
    arguments: [
      ActionError.noSuchAttachment(name: "x"),
      .inUse(name: "x", uses: ["mounted on /srv/data", "swap on /dev/nbd0p1"]),
      .failed(name: "x", message: "no such export", hint: "look again"), .failed(name: "x", message: "m", hint: nil),
      .timedOut(name: "x", message: "connection refused", hint: "is it running?"),
      .timedOut(name: "x", message: nil, hint: nil), .configurationRefused(errors: ["a:1:1: error", "b"]), .stopping,
    ])
  func errors(error: ActionError) async throws {
    var actions = ControlActions()
    actions.restart = { _ throws(ActionError) in throw error }
    try await withServer(actions: actions) { path in
      await #expect(throws: ControlError.action(error)) {
        try await blocking { try ControlClient(path: path).restart("x") }
      }
    }
    #expect(error.description.unicodeScalars.allSatisfy { $0.value >= 0x20 })
  }

  @Test("who is not root is refused every change, and may still ask")
  func notRoot() async throws {
    let record = Record()
    var limits = ControlLimits()
    limits.privilegedUser = getuid() + 1
    try await withServer(limits: limits, actions: record.actions()) { path in
      for method in ControlMethod.allCases where method.isChange {
        let reply = try await blocking {
          let client = try RawClient(path)
          client.send("{\"method\":\"\(method.rawValue)\"}\0")
          return client.receive()
        }
        #expect(reply == #"{"error":"org.varlink.service.PermissionDenied","parameters":{}}"#)
      }
      await #expect(throws: ControlError.mayNotChange) {
        try await blocking { try ControlClient(path: path).stop("data", force: true) }
      }
      let document = try await blocking { try ControlClient(path: path).status() }
      #expect(document.attachments.count == 1)
    }
    #expect(record.changes.isEmpty)
  }

  @Test("an action that the daemon does not have is said to be missing")
  func missing() async throws {
    try await withServer(actions: ControlActions()) { path in
      await #expect(throws: ControlError.notImplemented(method: "org.nbdattach.Refresh")) {
        try await blocking { try ControlClient(path: path).refresh("data") }
      }
    }
  }

  @Test(
    "a parameter that is missing, unknown or of another type changes nothing",
    arguments: [
      ("Start", "{}", "name"), ("Start", #"{"name":"x"}"#, "wait"), ("Start", #"{"name":"x","wait":1}"#, "wait"),
      ("Start", #"{"name":"x","wait":true,"timeoutMilliseconds":-1}"#, "timeoutMilliseconds"),
      ("Start", #"{"name":"x","wait":true,"timeoutMilliseconds":1.5}"#, "timeoutMilliseconds"),
      ("Start", #"{"name":"x","wait":true,"timeoutMilliseconds":1e99}"#, "timeoutMilliseconds"),
      ("Stop", #"{"name":["x"]}"#, "name"), ("Stop", #"{"name":"x","force":"yes"}"#, "force"),
      ("Stop", #"{"name":"x","Force":true}"#, "Force"), ("Restart", #"{"name":null}"#, "name"),
      ("Retry", #"{"name":{}}"#, "name"), ("Reload", #"{"name":"x"}"#, "name"),
      ("EndHolding", "{}", "afterMilliseconds"), ("EndHolding", #"{"afterMilliseconds":"1s"}"#, "afterMilliseconds"),
    ])
  func parameters(method: String, parameters: String, wrong: String) async throws {
    let record = Record()
    try await withServer(actions: record.actions()) { path in
      let reply = try await blocking {
        let client = try RawClient(path)
        client.send(#"{"method":"org.nbdattach.\#(method)","parameters":\#(parameters)}"# + "\0")
        return client.receive()
      }
      #expect(reply == #"{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"\#(wrong)"}}"#)
    }
    #expect(record.changes.isEmpty)
  }

  @Test("the longest time that a client can name is no overflow")
  func longestTime() async throws {
    let record = Record()
    try await withServer(actions: record.actions()) { path in
      let reply = try await blocking {
        let client = try RawClient(path)
        let parameters = #"{"name":"x","wait":true,"timeoutMilliseconds":9223372036854775807}"#
        client.send(#"{"method":"org.nbdattach.Start","parameters":\#(parameters)}"# + "\0")
        return client.receive()
      }
      #expect(reply == #"{"parameters":{}}"#)
    }
    #expect(record.changes == [.start(name: "x", wait: true, timeout: .milliseconds(Int64.max))])
  }

  @Test("a change that takes longer than an answer may is waited for")
  func patient() async throws {
    var limits = ControlLimits()
    limits.answering = .milliseconds(1)
    let (asked, askedTrigger) = AsyncStream.makeStream(of: Void.self)
    let (release, trigger) = AsyncStream.makeStream(of: Void.self)
    var actions = ControlActions()
    actions.start = { _, _, _ in
      askedTrigger.finish()
      for await _ in release {}
    }
    try await withServer(limits: limits, actions: actions) { path in
      async let started: Void = blocking { try ControlClient(path: path).start("x", wait: true, timeout: nil) }
      for await _ in asked {}
      // Others are served meanwhile, and one whose answer is bounded is past its time.
      _ = try await blocking {
        let client = try RawClient(path)
        client.send(#"{"method":"x.y.Z"}"# + "\0")
        return client.receive()
      }
      trigger.finish()
      try await started
    }
  }

  @Test("when the client of a change goes away, waiting for it ends")
  func clientGone() async throws {
    let (asked, askedTrigger) = AsyncStream.makeStream(of: Void.self)
    let (ended, endedTrigger) = AsyncStream.makeStream(of: Bool.self)
    var actions = ControlActions()
    actions.start = { _, _, _ in
      askedTrigger.finish()
      // Ends by cancellation only.
      let (never, _) = AsyncStream.makeStream(of: Void.self)
      for await _ in never {}
      endedTrigger.yield(Task.isCancelled)
      endedTrigger.finish()
    }
    try await withServer(actions: actions) { path in
      var client: RawClient? = try RawClient(path)
      client?.send(#"{"method":"org.nbdattach.Start","parameters":{"name":"x","wait":true}}"# + "\0")
      for await _ in asked {}
      client = nil
      var isCancelled = false
      for await value in ended { isCancelled = value }
      #expect(isCancelled)
    }
  }

  @Test("a client that has closed its side only still gets the answer to its change")
  func halfClosed() async throws {
    let record = Record()
    try await withServer(actions: record.actions()) { path in
      let reply = try await blocking {
        let client = try RawClient(path)
        client.send(#"{"method":"org.nbdattach.Reload"}"# + "\0")
        client.finishSending()
        return client.receive()
      }
      #expect(reply == #"{"parameters":{}}"#)
    }
    #expect(record.changes == [.reload])
  }
}

/// Actions that succeed, and what they were asked for.
private final class Record: Sendable {
  private let taken = Mutex<[ControlChange]>([])

  var changes: [ControlChange] { taken.withLock { $0 } }

  private func add(_ change: ControlChange) { taken.withLock { $0.append(change) } }

  func actions() -> ControlActions {
    var actions = ControlActions()
    actions.start = { self.add(.start(name: $0, wait: $1, timeout: $2)) }
    actions.stop = { self.add(.stop(name: $0, force: $1)) }
    actions.restart = { self.add(.restart(name: $0)) }
    actions.retry = { self.add(.retry(name: $0)) }
    actions.reconnect = { self.add(.reconnect(name: $0)) }
    actions.refresh = { self.add(.refresh(name: $0)) }
    actions.move = { self.add(.move(name: $0, uri: $1)) }
    actions.acknowledge = { self.add(.acknowledge(name: $0)) }
    actions.reload = { self.add(.reload) }
    actions.endHolding = { self.add(.endHolding(after: $0)) }
    return actions
  }
}
