import AttachmentModel
import Foundation
import Glibc
import Testing

@testable import Control

@Suite("the control socket's clients")
struct ControlServerTests {
  @Test("a call that comes byte by byte is answered")
  func byteByByte() async throws {
    try await withServer { path in
      let reply = try await blocking {
        let client = try RawClient(path)
        for byte in getInfo.utf8 { client.send([byte]) }
        return client.receive()
      }
      #expect(reply?.contains("\"product\":\"nbdattachd\"") == true)
    }
  }

  @Test("calls sent ahead are answered in their order, though nothing is read until all are sent")
  func pipelining() async throws {
    try await withServer { path in
      let replies = try await blocking {
        let client = try RawClient(path)
        let calls = (0..<500).map { #"{"method":"x.y.M\#($0)"}"# + "\0" }
        client.send(calls.joined())
        return calls.indices.map { _ in client.receive() }
      }
      for (index, reply) in replies.enumerated() {
        #expect(reply == #"{"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":"x.y"}}"#)
        if reply == nil { Issue.record("no answer to call \(index)") }
      }
    }
  }

  @Test("a client that sends everything and closes its side gets its answers, then the end")
  func halfClose() async throws {
    try await withServer { path in
      let replies = try await blocking {
        let client = try RawClient(path)
        client.send(getStatus + getInfo)
        client.finishSending()
        return [client.receive(), client.receive(), client.receive()]
      }
      #expect(replies[0]?.contains("\"attachments\":[{") == true)
      #expect(replies[1]?.contains("nbdattachd") == true)
      #expect(replies[2] == nil)
    }
  }

  @Test("a oneway call has no answer, not even an error")
  func oneway() async throws {
    try await withServer { path in
      let reply = try await blocking {
        let client = try RawClient(path)
        client.send(#"{"method":"org.nbdattach.Status","oneway":true}"# + "\0")
        client.send(#"{"method":"no.such.Thing","oneway":true}"# + "\0")
        client.send(getInfo)
        return client.receive()
      }
      #expect(reply?.contains("nbdattachd") == true)
    }
  }

  @Test(
    "who does not speak the protocol is hung up on, and the next client is served",
    arguments: [
      "\0", "hello\0", "GET / HTTP/1.1\r\n\r\n\0", #"{"method":7}"# + "\0", "\u{1}\u{2}\u{3}\0\0\0\0",
      String(repeating: "[", count: 60_000) + "\0",
    ])
  func garbage(text: String) async throws {
    try await withServer { path in
      let (garbage, next) = try await blocking {
        let client = try RawClient(path)
        client.send(text)
        let garbage = client.receive()
        let other = try RawClient(path)
        other.send(getInfo)
        return (garbage, other.receive())
      }
      #expect(garbage == nil)
      #expect(next != nil)
    }
  }

  @Test("a call of the longest length is answered, a longer one is not waited for")
  func oversized() async throws {
    var limits = ControlLimits()
    limits.callLength = 8192
    try await withServer(limits: limits) { path in
      let start = #"{"method":"x.y.Z","later":""#
      let longest = start + String(repeating: "a", count: 8192 - start.utf8.count - 2) + "\"}\0"
      let (answered, refused) = try await blocking {
        let client = try RawClient(path)
        client.send(longest)
        let answered = client.receive()
        let other = try RawClient(path)
        while other.send([UInt8](repeating: 0x61, count: 4096)) {}
        return (answered, other.receive())
      }
      #expect(answered?.contains("InterfaceNotFound") == true)
      #expect(refused == nil)
    }
  }

  @Test("who says nothing, or stops in the middle of a call, is hung up on", arguments: ["", "{\"method\":"])
  func silence(text: String) async throws {
    var limits = ControlLimits()
    limits.idle = .milliseconds(50)
    limits.receiving = .milliseconds(50)
    try await withServer(limits: limits) { path in
      let reply = try await blocking {
        let client = try RawClient(path)
        client.send(text)
        return client.receive()
      }
      #expect(reply == nil)
    }
  }

  @Test("who does not read the answer is hung up on")
  func slowReader() async throws {
    var limits = ControlLimits()
    limits.sending = .milliseconds(50)
    let reports = (0..<5000).map { fullReport("export-\($0)") }
    try await withServer(limits: limits, serving: snapshot(reports)) { path in
      let (isHungUp, received) = try await blocking {
        let client = try RawClient(path)
        client.send(getStatus)
        return (client.awaitHangup(), client.drain())
      }
      #expect(isHungUp)
      #expect(received < 1_000_000)
    }
  }

  @Test("where the daemon can't say its status, the client is hung up on, and others are served")
  func hungStatus() async throws {
    var limits = ControlLimits()
    limits.answering = .seconds(2)
    let (release, trigger) = AsyncStream.makeStream(of: Void.self)
    let status: @Sendable () async -> StatusSnapshot = {
      for await _ in release {}
      return snapshot()
    }
    try await withServer(limits: limits, status: status) { path in
      let (first, second) = try await blocking {
        let client = try RawClient(path)
        client.send(getStatus)
        let first = client.receive()
        let other = try RawClient(path)
        other.send(#"{"method":"x.y.Z"}"# + "\0")
        return (first, other.receive())
      }
      #expect(first == nil)
      #expect(second?.contains("InterfaceNotFound") == true)
    }
    trigger.finish()
  }

  @Test("a client that goes away in the middle of anything harms nobody")
  func vanishing() async throws {
    let reports = (0..<2000).map { fullReport("export-\($0)") }
    try await withServer(serving: snapshot(reports)) { path in
      let last = try await blocking {
        for text in ["", "{\"meth", getStatus, getStatus + getStatus, getInfo + "{"] {
          for _ in 0..<20 { try RawClient(path).send(text) }
        }
        let client = try RawClient(path)
        client.send(getInfo)
        return client.receive()
      }
      #expect(last != nil)
    }
  }

  @Test("a user's connections are bounded; one that ends makes room")
  func connectionsPerUser() async throws {
    var limits = ControlLimits()
    limits.connectionsPerUser = 2
    limits.privilegedUser = nil
    try await withServer(limits: limits) { path in
      let (third, ended, fourth) = try await blocking {
        let clients = [try RawClient(path), try RawClient(path)]
        for client in clients {
          client.send(getInfo)
          _ = client.receive()
        }
        let third = try RawClient(path).receive()
        clients[0].finishSending()
        let ended = clients[0].receive()
        let client = try RawClient(path)
        client.send(getInfo)
        return (third, ended, client.receive())
      }
      #expect(third == nil)
      #expect(ended == nil)
      #expect(fourth != nil)
    }
  }

  @Test("the privileged user gets in though no place is left")
  func privileged() async throws {
    var limits = ControlLimits()
    limits.connections = 0
    limits.privilegedUser = getuid()
    try await withServer(limits: limits) { path in
      let reply = try await blocking {
        let client = try RawClient(path)
        client.send(getInfo)
        return client.receive()
      }
      #expect(reply != nil)
    }
  }

  @Test("places are counted over all users and for each")
  func admission() {
    var limits = ControlLimits()
    limits.connections = 4
    limits.connectionsPerUser = 2
    #expect(limits.admit(user: 1000, others: [0, 0, 0, 0, 0, 1000]))
    #expect(!limits.admit(user: 1000, others: [1000, 1000]))
    #expect(!limits.admit(user: 1003, others: [1000, 1001, 1002, 1000]))
    #expect(limits.admit(user: 0, others: [UInt32](repeating: 0, count: 5000)))
  }
}
