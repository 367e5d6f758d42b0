import AttachmentModel
import Foundation
import Testing

@testable import Control

@Suite("the interface file and the Swift types")
struct InterfaceTests {
  private func definition(_ interface: ControlInterface = .ours) throws -> InterfaceDefinition {
    try InterfaceDefinition(interface.text)
  }

  @Test("have the same methods, and the service errors that we answer with exist")
  func methods() throws {
    for interface in ControlInterface.allCases {
      let definition = try definition(interface)
      #expect(definition.name == interface.rawValue)
      let ours = ControlMethod.allCases.map(\.rawValue).filter { $0.hasPrefix(interface.rawValue + ".") }
      #expect(Set(ours) == Set(definition.methods.keys.map { interface.rawValue + "." + $0 }))
    }
  }

  @Test(
    "have the same errors",
    arguments: [
      VarlinkError.interfaceNotFound(""), .methodNotFound(""), .methodNotImplemented(""), .invalidParameter(""),
      .permissionDenied, .action(.noSuchAttachment(name: "")), .action(.inUse(name: "", uses: [])),
      .action(.failed(name: "", message: "", hint: "")), .action(.timedOut(name: "", message: "", hint: "")),
      .action(.configurationRefused(errors: [])), .action(.stopping),
    ])
  func errors(error: VarlinkError) throws {
    let interface = try #require(ControlInterface.allCases.first { error.name.hasPrefix($0.rawValue + ".") })
    let name = String(error.name.dropFirst(interface.rawValue.count + 1))
    let fields = try #require(try definition(interface).errors[name])
    #expect(fields.map(\.name).sorted() == error.parameters.keys.sorted())
    for field in fields { #expect((error.parameters[field.name]?.strings != nil) == field.isArray) }
  }

  @Test("have the same cases")
  func enumerations() throws {
    let types = try definition().types
    #expect(types["State"] == .cases(AttachmentReport.State.allCases.map(\.rawValue)))
    #expect(types["Phase"] == .cases(Failure.Phase.allCases.map(\.rawValue)))
    #expect(types["KernelInterface"] == .cases(KernelInterface.allCases.map(\.rawValue)))
    #expect(types["Datapath"] == .cases(Datapath.allCases.map(\.rawValue)))
    #expect(types["SecurityPlace"] == .cases(LinkSecurity.Place.allCases.map(\.rawValue)))
  }

  @Test("have the same fields, of the same types, in a document with all and in one with none that may be left out")
  func fields() throws {
    let definition = try definition()
    let output = try #require(definition.methods["Status"]).output
    let full = StatusDocument(snapshot([relayedReport()], configurationError: "e"))
    try check(try json(full), output, definition, isFull: true)
    var bare = StatusSnapshot(daemon: DaemonReport(pid: 1, started: 0))
    bare.attachments = [AttachmentReport(name: "x", state: .stopped, since: 0)]
    try check(try json(StatusDocument(bare)), output, definition, isFull: false)
  }

  @Test("a document comes back from JSON the same")
  func roundTrip() throws {
    let document = StatusDocument(snapshot([relayedReport(), attachedReport("b")], configurationError: "e"))
    #expect(try JSONDecoder().decode(StatusDocument.self, from: Data(document.prettyJSON().utf8)) == document)
  }

  private func json(_ document: StatusDocument) throws -> Any {
    try JSONSerialization.jsonObject(with: Data(document.prettyJSON().utf8))
  }

  private func check(
    _ value: Any, _ fields: [InterfaceDefinition.Field], _ definition: InterfaceDefinition, isFull: Bool
  ) throws {
    let object = try #require(value as? [String: Any])
    let expected = fields.filter { isFull || !$0.isNullable }.map(\.name)
    #expect(object.keys.sorted() == expected.sorted())
    for field in fields {
      guard let value = object[field.name] else { continue }
      for element in field.isArray ? try #require(value as? [Any]) : [value] {
        try check(element, type: field.type, definition, isFull: isFull)
      }
    }
  }

  private func check(_ value: Any, type: String, _ definition: InterfaceDefinition, isFull: Bool) throws {
    switch type {
    case "string": #expect(value is String)
    case "bool": #expect(value is Bool)
    case "int": #expect(value is Int)
    default:
      switch try #require(definition.types[type]) {
      case .cases(let cases): #expect(cases.contains(try #require(value as? String)))
      case .fields(let fields): try check(value, fields, definition, isFull: isFull)
      }
    }
  }
}
