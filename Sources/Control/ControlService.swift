import AttachmentModel

/// The methods behind the control socket.
struct ControlService: Sendable {
  let status: @Sendable () async -> StatusSnapshot
  let actions: ControlActions

  /// `mayChange`: whether the caller is root.
  func reply(to call: VarlinkCall, mayChange: Bool) async -> VarlinkReply {
    do throws(VarlinkError) {
      if call.isUpgrade { throw .invalidParameter("upgrade") }
      guard let method = ControlMethod(rawValue: call.method) else { throw ControlService.unknown(call.method) }
      if method.isChange && !mayChange { throw .permissionDenied }
      switch method {
      case .getInfo:
        try call.expect([])
        return VarlinkReply(ServiceInfo(version: await status().daemon.version))
      case .getInterfaceDescription:
        try call.expect(["interface"])
        let name = try call.required("interface", call.string("interface"))
        guard let interface = ControlInterface(rawValue: name) else { throw .interfaceNotFound(name) }
        return VarlinkReply(["description": interface.text])
      case .status:
        try call.expect(["name"])
        return VarlinkReply(try await document(of: call.string("name")))
      case .start, .stop, .restart, .retry, .reconnect, .refresh, .move, .acknowledge, .reload, .endHolding:
        guard let change = try ControlChange(method, call) else { throw .methodNotFound(call.method) }
        try await perform(change, call.method)
        return VarlinkReply([String: String]())
      }
    } catch {
      return VarlinkReply(error)
    }
  }

  private func perform(_ change: ControlChange, _ method: String) async throws(VarlinkError) {
    let isKnown: Bool
    do throws(ActionError) { isKnown = try await actions.perform(change) } catch { throw .action(error) }
    if !isKnown { throw .methodNotImplemented(method) }
  }

  /// Whether the answer has to come in time; that to a change may take as long as its client waits for it.
  static func isBounded(_ call: VarlinkCall) -> Bool {
    ControlMethod(rawValue: call.method)?.isChange != true
  }

  private func document(of name: String?) async throws(VarlinkError) -> StatusDocument {
    var snapshot = await status()
    if let name {
      snapshot.attachments.removeAll { $0.name != name }
      if snapshot.attachments.isEmpty { throw .action(.noSuchAttachment(name: name)) }
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
  case start = "org.nbdattach.Start"
  case stop = "org.nbdattach.Stop"
  case restart = "org.nbdattach.Restart"
  case retry = "org.nbdattach.Retry"
  case reconnect = "org.nbdattach.Reconnect"
  case refresh = "org.nbdattach.Refresh"
  case move = "org.nbdattach.Move"
  case acknowledge = "org.nbdattach.Acknowledge"
  case reload = "org.nbdattach.Reload"
  case endHolding = "org.nbdattach.EndHolding"

  /// Whether only root may call it.
  var isChange: Bool {
    switch self {
    case .getInfo, .getInterfaceDescription, .status: false
    case .start, .stop, .restart, .retry, .reconnect, .refresh, .move, .acknowledge, .reload, .endHolding: true
    }
  }
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
