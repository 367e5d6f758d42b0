import Glibc
import Synchronization
import Testing

@testable import LinuxKernel

@Suite("calls to the nbd driver by netlink")
struct NBDNetlinkTests {
  private static let request = NBDConnectRequest(index: nil, size: 1 << 20, blockSize: 512, serverFlags: 1)

  @Test("CONNECT gives the index that the kernel took")
  func connect() async throws {
    let kernel = ScriptedKernel(family: 32) { _, sequence in
      [indexReply(command: 1, 4, family: 32, sequence: sequence), acknowledgement(0, sequence)]
    }
    #expect(try await kernel.netlink().connect(Self.request, sockets: [], within: .seconds(60)) == 4)
  }

  @Test("a refusal has the command, the errno and the kernel's explanation")
  func refusal() async {
    let kernel = ScriptedKernel(family: 32) { _, sequence in
      [acknowledgement(EBUSY, sequence, text: "nbd5 already in use")]
    }
    let error = await #expect(throws: NetlinkError.self) {
      try await kernel.netlink().connect(Self.request, sockets: [], within: .seconds(60))
    }
    #expect(error == .system(call: "NBD_CMD_CONNECT", code: EBUSY, text: "nbd5 already in use"))
    #expect(error?.code == EBUSY)
    #expect(error?.description == "NBD_CMD_CONNECT: Device or resource busy (nbd5 already in use)")
  }

  @Test("without the family every call is unavailable, with the reason")
  func unavailable() async {
    let netlink = ScriptedKernel(family: nil) { _, _ in [] }.netlink()
    let reason = NetlinkError.unavailable("the kernel has no nbd family: module not loaded")
    #expect(await netlink.availability(within: .seconds(60)) == .failure(reason))
    await #expect(throws: reason) { try await netlink.disconnect(index: 0, within: .seconds(60)) }
  }

  @Test("a module loaded again between look-up and request is found under its new id, and the request sent there once")
  func reload() async throws {
    let kernel = ScriptedKernel(family: 32) { _, sequence in [acknowledgement(0, sequence)] }
    kernel.reload(afterNextLookUpAs: 33)
    try await kernel.netlink().disconnect(index: 7, within: .seconds(60))
    #expect(kernel.requests.map(\.family) == [32, 33])
  }

  @Test("a request that the family itself answers with ENOENT is not sent again")
  func noSuchThing() async {
    let kernel = ScriptedKernel(family: 32) { _, sequence in [acknowledgement(ENOENT, sequence)] }
    await #expect(throws: NetlinkError.system(call: "NBD_CMD_DISCONNECT", code: ENOENT, text: nil)) {
      try await kernel.netlink().disconnect(index: 7, within: .seconds(60))
    }
    #expect(kernel.requests.count == 1)
  }

  @Test("what other processes send, and answers to other sequence numbers, are not believed")
  func forged() async throws {
    let kernel = ScriptedKernel(family: 32) { _, sequence in
      [
        [], acknowledgement(EPERM, sequence &- 1),
        indexReply(command: 1, 9, family: 32, sequence: sequence &+ 1),
        indexReply(command: 1, 8, family: 40, sequence: sequence),
        indexReply(command: 1, 4, family: 32, sequence: sequence), acknowledgement(0, sequence),
      ]
    }
    #expect(try await kernel.netlink().connect(Self.request, sockets: [], within: .seconds(60)) == 4)
  }

  @Test("a kernel that never acknowledges is given up")
  func endless() async {
    let kernel = ScriptedKernel(family: 32) { _, sequence in
      Array(repeating: indexReply(command: 1, 4, family: 32, sequence: sequence), count: 500)
    }
    await #expect(throws: NetlinkError.malformed("NBD_CMD_CONNECT is never acknowledged")) {
      try await kernel.netlink().connect(Self.request, sockets: [], within: .seconds(60))
    }
  }

  @Test("success without an answer is malformed where there must be one")
  func noAnswer() async {
    let netlink = ScriptedKernel(family: 32) { _, sequence in [acknowledgement(0, sequence)] }.netlink()
    await #expect(throws: NetlinkError.malformed("NBD_CMD_CONNECT without an index")) {
      try await netlink.connect(Self.request, sockets: [], within: .seconds(60))
    }
    await #expect(throws: NetlinkError.malformed("NBD_CMD_STATUS without an answer")) {
      try await netlink.status(within: .seconds(60))
    }
  }

  @Test("what can't be said in a message is refused before anything is sent")
  func unsayable() async {
    let kernel = ScriptedKernel(family: 32) { _, sequence in [acknowledgement(0, sequence)] }
    await #expect(throws: NetlinkError.system(call: "NBD_CMD_DISCONNECT", code: EINVAL, text: nil)) {
      try await kernel.netlink().disconnect(index: -1, within: .seconds(60))
    }
    #expect(kernel.requests.isEmpty)
  }

  @Test("a call that hangs in the kernel is reported at its deadline, and keeps its sockets open until it comes back")
  func hanging() async throws {
    let gate = Gate()
    let kernel = ScriptedKernel(family: 32) { _, sequence in
      gate.wait()
      return [acknowledgement(0, sequence)]
    }
    let netlink = kernel.netlink(threads: 1)
    weak var file: OpenFile?
    try await {
      let socket = OpenFile(try FileDescriptor.open("/dev/null"))
      file = socket
      await #expect(throws: NetlinkError.timedOut(call: "NBD_CMD_RECONFIGURE", hasBegun: true)) {
        try await netlink.reconfigure(index: 3, backend: nil, .links([socket]), within: .milliseconds(200))
      }
    }()
    #expect(file != nil)

    // The only thread hangs: what comes now is never begun.
    await #expect(throws: NetlinkError.timedOut(call: "NBD_CMD_DISCONNECT", hasBegun: false)) {
      try await netlink.disconnect(index: 9, within: .milliseconds(20))
    }
    gate.open()
    try await netlink.disconnect(index: 4, within: .seconds(60))
    #expect(kernel.requests.map(\.command) == [3, 2])
    #expect(file == nil)
  }
}
