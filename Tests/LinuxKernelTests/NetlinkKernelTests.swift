import Dispatch
import Glibc
import Synchronization
import Testing

@testable import LinuxKernel

/// With this machine's own kernel: its controller `nlctrl` is everywhere, the nbd module may be missing.
@Suite("generic netlink of the running kernel")
struct NetlinkKernelTests {
  @Test("the controller describes itself")
  func controller() throws {
    var line = try Self.line()
    let family = try line.family("nlctrl")
    #expect(family.id == GenericNetlinkFamily.controller)
    #expect(family.groups["notify"] == 16)
  }

  @Test("a family that is not there is unavailable, and the line good for the next question")
  func missing() throws {
    var line = try Self.line()
    do throws(NetlinkError) {
      _ = try line.family("nbdattach-test")
      Issue.record("there is such a family")
    } catch {
      #expect(error == .unavailable("the kernel has no nbdattach-test family: module not loaded"))
    }
    let controller = try line.family("nlctrl")
    #expect(controller.id == 16)
  }

  @Test(
    "a kernel without nbd says so",
    .disabled(if: access("/sys/module/nbd", F_OK) == 0, "this kernel has nbd"))
  func noModule() async {
    let reason = NetlinkError.unavailable("the kernel has no nbd family: module not loaded")
    #expect(await NBDNetlink().availability(within: .seconds(60)) == .failure(reason))
    let events = Events()
    let listener = NBDNetlinkEvents(within: .seconds(60)) { events.add($0) }
    #expect(await events.next() == .absent)
    listener.stop()
  }

  @Test("a refusal comes with the kernel's explanation, although the request is left out")
  func explanation() throws {
    let socket = try NetlinkSocket.forRequests()
    var attributes = NetlinkAttributes()
    attributes.add(2, UInt32(0x4141_4141))  // a name without its NUL
    try socket.send(
      GenericNetlinkMessage.request(family: 16, command: 3, version: 1, sequence: 9, attributes).bytes)
    var conversation = NetlinkConversation(sequence: 9)
    let datagram = try socket.receive()
    let received = try conversation.receive(try #require(datagram))
    let end = try #require(received)
    #expect(end.code == EINVAL)
    #expect(end.text?.isEmpty == false)
    #expect(end.offset == 20)
  }

  @Test("a socket without anything to read gives EAGAIN, also one that waits a little")
  func nothing() throws {
    let socket = try NetlinkSocket.forEvents(bufferSize: 1 << 16)
    #expect(throws: SystemCallError("recv", EAGAIN)) { try socket.receive() }
  }

  @Test("what another process sends to the group is not believed", .enabled(if: canMulticast, needsCapability))
  func forged() throws {
    let socket = try NetlinkSocket.forEvents(bufferSize: 1 << 16)
    try socket.join(group: 16)
    try Self.multicast(times: 1)
    #expect(try socket.receive() == nil)
    #expect(throws: SystemCallError("recv", EAGAIN)) { try socket.receive() }
  }

  @Test("lost events are told, and listening goes on", .enabled(if: canMulticast, needsCapability))
  func overrun() async throws {
    let events = Events()
    let gate = Gate()
    // The callback holds up the queue that reads, so that the smallest buffer overruns for certain.
    let listener = NBDNetlinkEvents(
      family: "nlctrl", group: "notify", bufferSize: 1, pool: BlockingThreadPool(name: "test", threads: 1),
      within: .seconds(60)
    ) { event in
      events.add(event)
      gate.wait()
    }
    #expect(await events.next() == .subscribed)
    try Self.multicast(times: 100)
    gate.open()
    #expect(await events.next() == .overrun)
    // Now it is read meanwhile, but not as fast as this.
    while events.rest.isEmpty { try Self.multicast(times: 100) }
    #expect(await events.next() == .overrun)
    listener.stop()
  }

  @Test("a kernel that does not answer the subscription ends it with the reason")
  func hangingSubscription() async {
    let events = Events()
    let gate = Gate()
    let pool = BlockingThreadPool(name: "test", threads: 1)
    pool.submit({ gate.wait() }, refusal: { _ in })
    let listener = NBDNetlinkEvents(
      family: "nlctrl", group: "notify", bufferSize: 1 << 16, pool: pool, within: .milliseconds(50)
    ) { events.add($0) }
    #expect(await events.next() == .ended(.timedOut(call: "NETLINK_ADD_MEMBERSHIP", hasBegun: false)))
    gate.open()
    listener.stop()
  }

  @Test("listeners that come and go leave no descriptor open")
  func descriptors() async throws {
    let pool = BlockingThreadPool(name: "test", threads: 1)
    for round in 0..<50 {
      let events = Events()
      let listener = NBDNetlinkEvents(
        family: "nlctrl", group: "notify", bufferSize: 1 << 16, pool: pool, within: .seconds(60)
      ) { events.add($0) }
      // Some go before they are subscribed.
      if round % 2 == 0 { #expect(await events.next() == .subscribed) }
      listener.stop()
    }
    // The pool's only thread has done all of the subscriptions when it gets to this.
    _ = await pool.run(within: .seconds(60)) {}
    while Self.netlinkSockets() > 8 { await Task.yield() }
  }

  private static func line() throws(NetlinkError) -> NetlinkLine {
    try NetlinkLine { () throws(SystemCallError) in try NetlinkSocket.forRequests() }
  }

  /// Open files of this process that are sockets of protocol 16, generic netlink.
  private static func netlinkSockets() -> Int {
    let inodes = (readSmallFile("/proc/self/net/netlink", limit: 1 << 20) ?? "").split(separator: "\n").compactMap {
      line -> String? in
      let fields = line.split(separator: " ")
      return fields.count > 9 && fields[1] == "16" ? "socket:[\(fields[9])]" : nil
    }
    let targets = directoryEntries("/proc/self/fd").compactMap { number -> String? in
      var buffer = [CChar](repeating: 0, count: 64)
      let count = readlink("/proc/self/fd/\(number)", &buffer, buffer.count)
      return count < 0 ? nil : String(decoding: buffer[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
    return Set(inodes).intersection(targets).count
  }

  private static let needsCapability: Comment = "sending to a multicast group needs CAP_NET_ADMIN"
  private static let canMulticast = (try? multicast(times: 1)) != nil

  /// Sends an empty message to the controller's group, as only a privileged process may.
  private static func multicast(times: Int) throws {
    let socket = try NetlinkSocket.forRequests()
    let message = NetlinkMessage(type: 16, flags: 0, sequence: 0, payload: [1, 2, 0, 0]).bytes
    // struct sockaddr_nl, which only LinuxKernel imports: family 16, padding, the kernel's port 0, group 16 as a bit.
    let group = bytes("10 00 00 00 00 00 00 00 00 80 00 00")
    for _ in 0..<times {
      let result = group.withUnsafeBytes { address in
        sendto(
          socket.file.number, message, message.count, 0,
          address.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(address.count))
      }
      // ENOBUFS: a listener's buffer is full, which is told to the sender too.
      if result < 0, errno != ENOBUFS { throw lastError("sendto") }
    }
  }
}

/// The events that came, in order, for a test to wait for.
private final class Events: Sendable {
  private struct State {
    var events: [NBDNetlinkEvents.Event] = []
    var waiter: CheckedContinuation<NBDNetlinkEvents.Event, Never>?
  }

  private let state = Mutex(State())

  /// What nobody has waited for.
  var rest: [NBDNetlinkEvents.Event] { state.withLock { $0.events } }

  func add(_ event: NBDNetlinkEvents.Event) {
    let waiter = state.withLock { state in
      if state.waiter == nil { state.events.append(event) }
      return state.waiter.take()
    }
    waiter?.resume(returning: event)
  }

  func next() async -> NBDNetlinkEvents.Event {
    await withCheckedContinuation { continuation in
      let event = state.withLock { state -> NBDNetlinkEvents.Event? in
        if state.events.isEmpty {
          state.waiter = continuation
          return nil
        }
        return state.events.removeFirst()
      }
      if let event { continuation.resume(returning: event) }
    }
  }
}
