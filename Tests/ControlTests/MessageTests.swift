import Foundation
import Testing

@testable import Control

@Suite("messages on the stream")
struct MessageBufferTests {
  @Test("a message ends with its NUL, wherever the stream is cut")
  func cuts() {
    let stream = Array("one\0two\0\0three\0".utf8)
    for size in 1...stream.count {
      var buffer = MessageBuffer(messageLimit: 5)
      var messages: [String] = []
      for start in stride(from: 0, to: stream.count, by: size) {
        buffer.append(stream[start..<min(start + size, stream.count)])
        while case .message(let message) = buffer.next() { messages.append(String(decoding: message, as: UTF8.self)) }
      }
      #expect(messages == ["one", "two", "", "three"])
      #expect(!buffer.isPartial)
    }
  }

  @Test("a message of the limit is taken, one byte more is not, complete or not")
  func limit() {
    var exact = MessageBuffer(messageLimit: 3)
    exact.append([1, 2, 3])
    #expect(exact.next() == .incomplete)
    exact.append([0])
    #expect(exact.next() == .message([1, 2, 3]))
    var long = MessageBuffer(messageLimit: 3)
    long.append([1, 2, 3, 4])
    #expect(long.next() == .tooLong)
    var complete = MessageBuffer(messageLimit: 3)
    complete.append([1, 2, 3, 4, 0])
    #expect(complete.next() == .tooLong)
  }
}

@Suite("calls")
struct VarlinkCallTests {
  @Test("a call has a method, parameters and flags")
  func call() throws {
    let text = #"{"method":"a.b.C","parameters":{"x":"y","n":null,"o":[1]},"oneway":true,"more":true,"later":1}"#
    let call = try #require(VarlinkCall(text.utf8))
    #expect(call.method == "a.b.C")
    #expect(call.parameters == ["x": .string("y"), "n": .null, "o": .other])
    #expect(call.isOneway)
    #expect(!call.isUpgrade)
  }

  @Test(
    "what is not a call is not taken for one",
    arguments: [
      "", "{", "null", "[]", "7", "{}", #"{"method":1}"#, #"{"method":"a","parameters":[]}"#,
      #"{"method":"a","oneway":"yes"}"#, #"{"method":"a"} trailing"#, #"{"method":"\ud800"}"#,
      "GET / HTTP/1.1\r\n\r\n", String(repeating: "[", count: 60000),
      #"{"method":"a","parameters":"# + String(repeating: #"{"a":"#, count: 10000),
    ])
  func notACall(text: String) {
    #expect(VarlinkCall(text.utf8) == nil)
  }

  @Test("bytes that are no UTF-8 are not a call")
  func notUTF8() {
    #expect(VarlinkCall([UInt8](#"{"method":""#.utf8) + [0xff, 0xfe] + #""}"#.utf8) == nil)
  }
}

@Suite("answers")
struct ControlServiceTests {
  private let service = ControlService(
    status: { snapshot([attachedReport("b"), fullReport("a")]) }, actions: ControlActions())

  private func reply(_ text: String) async throws -> String {
    let call = try #require(VarlinkCall(text.utf8))
    return String(decoding: await service.reply(to: call, mayChange: true).message, as: UTF8.self)
  }

  @Test("GetInfo names the interfaces")
  func info() async throws {
    #expect(
      try await reply(#"{"method":"org.varlink.service.GetInfo"}"#)
        == #"{"parameters":{"interfaces":["org.varlink.service","org.nbdattach"],"product":"nbdattachd","#
        + #""url":"man:nbdattachd(8)","vendor":"nbdattach","version":"1.2.3"}}"#)
  }

  @Test(
    "wrong calls get the errors that the specification names",
    arguments: [
      (#""org.example.Foo""#, "org.varlink.service.InterfaceNotFound", #"{"interface":"org.example"}"#),
      (#""org.nbdattach.Foo""#, "org.varlink.service.MethodNotFound", #"{"method":"org.nbdattach.Foo"}"#),
      (#""Foo""#, "org.varlink.service.MethodNotFound", #"{"method":"Foo"}"#),
      (
        #""org.varlink.service.GetInterfaceDescription""#, "org.varlink.service.InvalidParameter",
        #"{"parameter":"interface"}"#
      ),
      (
        #""org.varlink.service.GetInterfaceDescription","parameters":{"interface":"x.y"}"#,
        "org.varlink.service.InterfaceNotFound", #"{"interface":"x.y"}"#
      ),
      (
        #""org.nbdattach.Status","parameters":{"name":7}"#, "org.varlink.service.InvalidParameter",
        #"{"parameter":"name"}"#
      ),
      (
        #""org.nbdattach.Status","parameters":{"nmae":"a"}"#, "org.varlink.service.InvalidParameter",
        #"{"parameter":"nmae"}"#
      ),
      (
        #""org.nbdattach.Status","parameters":{"name":"zzz"}"#, "org.nbdattach.NoSuchAttachment",
        #"{"name":"zzz"}"#
      ),
      (#""org.nbdattach.Status","upgrade":true"#, "org.varlink.service.InvalidParameter", #"{"parameter":"upgrade"}"#),
    ])
  func errors(call: String, error: String, parameters: String) async throws {
    #expect(try await reply("{\"method\":\(call)}") == "{\"error\":\"\(error)\",\"parameters\":\(parameters)}")
  }

  @Test("each interface describes itself", arguments: ControlInterface.allCases)
  func descriptions(interface: ControlInterface) async throws {
    let text = try await reply(
      #"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"\#(interface.rawValue)"}}"#)
    struct Reply: Decodable {
      var parameters: [String: String]
    }
    let description = try JSONDecoder().decode(Reply.self, from: Data(text.utf8)).parameters["description"]
    #expect(try #require(description).contains("\ninterface \(interface.rawValue)\n"))
  }

  @Test("Status sorts by name, and a name selects one; null is no name")
  func status() async throws {
    struct Reply: Decodable {
      var parameters: StatusDocument
    }
    func names(_ parameters: String) async throws -> [String] {
      let text = try await reply("{\"method\":\"org.nbdattach.Status\",\"more\":true,\"parameters\":\(parameters)}")
      return try JSONDecoder().decode(Reply.self, from: Data(text.utf8)).parameters.attachments.map(\.name)
    }
    #expect(try await names("{}") == ["a", "b"])
    #expect(try await names(#"{"name":null}"#) == ["a", "b"])
    #expect(try await names(#"{"name":"b"}"#) == ["b"])
  }
}
