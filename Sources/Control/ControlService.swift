import AttachmentModel

/// The methods behind the control socket.
struct ControlService: Sendable {
  let status: @Sendable () async -> StatusSnapshot

  func reply(to call: VarlinkCall) async -> VarlinkReply {
    do throws(VarlinkError) {
      if call.isUpgrade { throw .invalidParameter("upgrade") }
      guard let method = ControlMethod(rawValue: call.method) else { throw ControlService.unknown(call.method) }
      switch method {
      case .getInfo:
        try call.expect([])
        return VarlinkReply(ServiceInfo(version: await status().daemon.version))
      case .getInterfaceDescription:
        try call.expect(["interface"])
        guard let name = try call.string("interface") else { throw .invalidParameter("interface") }
        guard let interface = ControlInterface(rawValue: name) else { throw .interfaceNotFound(name) }
        return VarlinkReply(["description": interface.text])
      case .status:
        try call.expect(["name"])
        return VarlinkReply(try await document(of: call.string("name")))
      }
    } catch {
      return VarlinkReply(error)
    }
  }

  private func document(of name: String?) async throws(VarlinkError) -> StatusDocument {
    var snapshot = await status()
    if let name {
      snapshot.attachments.removeAll { $0.name != name }
      if snapshot.attachments.isEmpty { throw .noSuchAttachment(name) }
    }
    return StatusDocument(snapshot)
  }

  private static func unknown(_ method: String) -> VarlinkError {
    guard let dot = method.lastIndex(of: ".") else { return .methodNotFound(method) }
    let interface = String(method[..<dot])
    return ControlInterface(rawValue: interface) == nil ? .interfaceNotFound(interface) : .methodNotFound(method)
  }
}

enum ControlMethod: String, CaseIterable {
  case getInfo = "org.varlink.service.GetInfo"
  case getInterfaceDescription = "org.varlink.service.GetInterfaceDescription"
  case status = "org.nbdattach.Status"
}

/// The interfaces of the service, by name.
enum ControlInterface: String, CaseIterable {
  case service = "org.varlink.service"
  case ours = "org.nbdattach"

  /// Its definition: the `.varlink` file of the same name, which the build puts into the program.
  var text: String {
    switch self {
    case .service: String(decoding: PackageResources.org_varlink_service_varlink, as: UTF8.self)
    case .ours: String(decoding: PackageResources.org_nbdattach_varlink, as: UTF8.self)
    }
  }
}

/// The answer to GetInfo.
struct ServiceInfo: Encodable {
  var vendor = "nbdattach"
  var product = "nbdattachd"
  var version: String
  var url = "man:nbdattachd(8)"
  var interfaces = ControlInterface.allCases.map(\.rawValue)
}

extension VarlinkCall {
  /// Refuses every parameter that is not among `names`.
  fileprivate func expect(_ names: Set<String>) throws(VarlinkError) {
    if let unknown = parameters.keys.filter({ !names.contains($0) }).min() { throw .invalidParameter(unknown) }
  }

  /// `nil`: absent or null.
  fileprivate func string(_ name: String) throws(VarlinkError) -> String? {
    switch parameters[name] {
    case nil, .null: nil
    case .string(let value): value
    case .other: throw .invalidParameter(name)
    }
  }
}
