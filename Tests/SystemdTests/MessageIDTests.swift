import AttachmentModel
import Foundation
import Testing

@testable import Systemd

@Suite("message IDs")
struct MessageIDTests {
  @Test("each is 128 bits in lower-case hexadecimal, and no two are the same")
  func format() {
    for id in MessageID.allCases {
      #expect(id.rawValue.count == 32)
      #expect(Set("0123456789abcdef").isSuperset(of: id.rawValue))
    }
    #expect(Set(MessageID.allCases.map(\.rawValue)).count == MessageID.allCases.count)
  }

  @Test("every state of an attachment has one", arguments: AttachmentReport.State.allCases)
  func states(state: AttachmentReport.State) throws {
    #expect("\(try #require(MessageID(stateNamed: state.rawValue)))" == state.rawValue)
  }

  @Test("a name that is no state has none")
  func noState() {
    #expect(MessageID(stateNamed: "configurationLoaded") == nil)
    #expect(MessageID(stateNamed: "") == nil)
  }

  @Test("the catalog explains each, and nothing else")
  func catalog() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../")
    let text = try String(contentsOf: root.appending(path: "packaging/nbdattach.catalog"), encoding: .utf8)
    let explained = text.split(separator: "\n").filter { $0.hasPrefix("-- ") }.map { $0.dropFirst(3) }
    #expect(explained.map(String.init).sorted() == MessageID.allCases.map(\.rawValue).sorted())
  }
}
