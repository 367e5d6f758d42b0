import Glibc
import Testing

@testable import Systemd

@Suite("what the service manager is told")
struct NotificationTests {
  @Test("each notification has the text of sd_notify(3)")
  func texts() {
    let all: [Notification] = [
      .ready, .reloading(monotonicMicroseconds: 12), .stopping, .status("12 attached"), .watchdog,
      .extendTimeout(.milliseconds(1500)), .errno(5),
    ]
    #expect(
      Notification.datagram(all)
        == """
        READY=1
        RELOADING=1
        MONOTONIC_USEC=12
        STOPPING=1
        STATUS=12 attached
        WATCHDOG=1
        EXTEND_TIMEOUT_USEC=1500000
        ERRNO=5
        """)
  }

  @Test("a newline in the status can't smuggle in another notification")
  func newline() {
    #expect(Notification.datagram([.status("a\nSTOPPING=1\r\0b")]) == "STATUS=a STOPPING=1  b")
  }

  @Test("a status is cut between characters, so that the datagram is not dropped for its length")
  func longStatus() {
    let text = Notification.datagram([.status(String(repeating: "ä", count: 5000))])
    #expect(text.utf8.count == "STATUS=".utf8.count + Notification.statusLimit)
    #expect(text.hasSuffix("ää"))
  }

  @Test("an extension of any length has a text", arguments: [Duration.seconds(-1), .zero, .seconds(Int64.max)])
  func extremeExtension(duration: Duration) throws {
    let text = Notification.datagram([.extendTimeout(duration)])
    #expect(try #require(Int64(text.dropFirst("EXTEND_TIMEOUT_USEC=".count))) >= 0)
  }

  @Test("a reload begins at the time of CLOCK_MONOTONIC")
  func reloadTime() throws {
    let before = try microseconds(.reloading())
    let after = try microseconds(.reloading())
    #expect(before > 0)
    #expect(after >= before)
  }

  @Test("without a service manager notifications are dropped")
  func absent() throws {
    try ServiceManager.absent.notify(.ready)
    #expect(ServiceManager.absent.watchdogInterval == nil)
  }

  // The environment belongs to the whole process, hence the processes of their own.

  @Test("several notifications arrive in one datagram, and the watchdog's interval is known")
  func delivered() async {
    await #expect(processExitsWith: .success) {
      let receiver = try NotifySocket()
      setenv("NOTIFY_SOCKET", receiver.path, 1)
      setenv("WATCHDOG_USEC", "30000000", 1)
      setenv("WATCHDOG_PID", "\(getpid())", 1)
      let manager = ServiceManager.fromEnvironment()
      #expect(manager.watchdogInterval == .seconds(30))
      try manager.notify(.ready, .status("2 attached"))
      try manager.notify([])
      try manager.notify(.stopping)
      #expect(receiver.next() == "READY=1\nSTATUS=2 attached")
      #expect(receiver.next() == "STOPPING=1")
    }
  }

  @Test("a notification that nobody takes is an error, not a crash")
  func nobodyListens() async {
    await #expect(processExitsWith: .success) {
      setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1)
      unsetenv("WATCHDOG_USEC")
      let manager = ServiceManager.fromEnvironment()
      #expect(manager.watchdogInterval == nil)
      #expect(throws: SystemdError.notify(code: ENOENT)) { try manager.notify(.ready) }
    }
  }

  private func microseconds(_ notification: Notification) throws -> UInt64 {
    guard case .reloading(let value) = notification else { throw SystemdError.notify(code: 0) }
    return value
  }
}

/// A service manager's end of a notification socket, in the abstract namespace.
struct NotifySocket {
  let path: String
  let fd: Int32

  init() throws {
    let name = "nbdattach-test-\(getpid())"
    path = "@" + name
    fd = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = [0] + Array(name.utf8)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
    let result = withUnsafePointer(to: address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(fd, $0, length) }
    }
    if result != 0 { throw SystemdError.notify(code: errno) }
  }

  /// Waits for a datagram.
  func next() -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = recv(fd, &buffer, buffer.count, 0)
    return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
  }
}
