import Glibc
import Testing

@testable import Systemd

@Suite("descriptors that the service manager keeps")
struct FileDescriptorStoreTests {
  // The environment belongs to the whole process, hence the processes of their own.

  @Test("descriptors arrive with their name, and are the same files")
  func stored() async {
    await #expect(processExitsWith: .success) {
      let receiver = try NotifySocket()
      setenv("NOTIFY_SOCKET", receiver.path, 1)
      let manager = ServiceManager.fromEnvironment()
      let sent = try pipePair()
      try manager.store([sent.reading, sent.writing], name: "nbd0.1")
      let message = receiver.nextWithDescriptors()
      #expect(message.text == "FDSTORE=1\nFDNAME=nbd0.1\nFDPOLL=0")
      try #require(message.fds.count == 2)
      #expect(identity(message.fds[0]) == identity(sent.reading))
      // What goes into the copy comes out of the original.
      #expect(write(message.fds[1], "x", 1) == 1)
      var byte: UInt8 = 0
      #expect(read(sent.reading, &byte, 1) == 1)
      #expect(byte == UInt8(ascii: "x"))
    }
  }

  @Test("the manager polls only what it is told to")
  func polled() async {
    await #expect(processExitsWith: .success) {
      let receiver = try NotifySocket()
      setenv("NOTIFY_SOCKET", receiver.path, 1)
      try ServiceManager.fromEnvironment().store([0], name: "a", poll: true)
      #expect(receiver.nextWithDescriptors().text == "FDSTORE=1\nFDNAME=a")
    }
  }

  @Test("more descriptors than one datagram takes go in several, each with the name")
  func many() async {
    await #expect(processExitsWith: .success) {
      let receiver = try NotifySocket()
      setenv("NOTIFY_SOCKET", receiver.path, 1)
      try ServiceManager.fromEnvironment().store([Int32](repeating: 0, count: 300), name: "a")
      let first = receiver.nextWithDescriptors()
      #expect(first.fds.count == 253)
      for fd in first.fds { close(fd) }
      let second = receiver.nextWithDescriptors()
      #expect(second.fds.count == 47)
      #expect(second.text == first.text)
    }
  }

  @Test("removal names what to remove")
  func removed() async {
    await #expect(processExitsWith: .success) {
      let receiver = try NotifySocket()
      setenv("NOTIFY_SOCKET", receiver.path, 1)
      try ServiceManager.fromEnvironment().removeFromStore(name: "nbd0.1")
      #expect(receiver.next() == "FDSTOREREMOVE=1\nFDNAME=nbd0.1")
    }
  }

  @Test("a closed descriptor is an error, and nothing is sent")
  func closed() async {
    await #expect(processExitsWith: .success) {
      let receiver = try NotifySocket()
      setenv("NOTIFY_SOCKET", receiver.path, 1)
      let manager = ServiceManager.fromEnvironment()
      #expect(throws: SystemdError.notify(code: EBADF)) { try manager.store([1000], name: "a") }
      try manager.notify(.ready)
      #expect(receiver.next() == "READY=1")
    }
  }

  @Test(
    "a name that the manager would not take, or that could smuggle in a notification, is refused before it is sent",
    arguments: ["", "a:b", "a\nREADY=1", "a b", "ä", "\u{7f}", "1234567890123456789012345678901"])
  func names(name: String) {
    #expect(throws: SystemdError.storeName(name)) { try ServiceManager.absent.store([0], name: name) }
    #expect(throws: SystemdError.storeName(name)) { try ServiceManager.absent.removeFromStore(name: name) }
  }

  @Test("without a service manager nothing is stored, removed or waited for")
  func absent() throws {
    try ServiceManager.absent.store([0], name: "nbd0")
    try ServiceManager.absent.removeFromStore(name: "nbd0")
    try ServiceManager.absent.synchronize(within: .seconds(3600))
  }

  @Test("the barrier holds until the manager has read what was sent before")
  func barrier() async {
    await #expect(processExitsWith: .success) {
      let receiver = try NotifySocket()
      setenv("NOTIFY_SOCKET", receiver.path, 1)
      let manager = ServiceManager.fromEnvironment()
      try manager.notify(.stopping)
      #expect(throws: SystemdError.notify(code: ETIMEDOUT)) { try manager.synchronize(within: .milliseconds(1)) }
      #expect(receiver.next() == "STOPPING=1")
      let message = receiver.nextWithDescriptors()
      #expect(message.text == "BARRIER=1")
      for fd in message.fds { close(fd) }
      // The manager answers by closing its end, here before the wait begins.
      let answered = Task { @Sendable in
        let message = receiver.nextWithDescriptors()
        for fd in message.fds { close(fd) }
        return message.text
      }
      try manager.synchronize(within: .seconds(60))
      #expect(await answered.value == "BARRIER=1")
    }
  }

  @Test("a process gets what it was started with, once, with its names and close-on-exec")
  func taken() async {
    await #expect(processExitsWith: .success) {
      // In this order: the first two numbers after standard error are the ones that a manager would use.
      let pair = try pipePair()
      _ = dup2(pair.reading, 3)
      _ = dup2(pair.writing, 4)
      #expect(fcntl(3, F_GETFD) & FD_CLOEXEC == 0)
      setenv("LISTEN_PID", "\(getpid())", 1)
      setenv("LISTEN_FDS", "2", 1)
      setenv("LISTEN_FDNAMES", "nbd0:nbd7.1", 1)
      let taken = try ListenDescriptors.take()
      #expect(taken.map(\.name) == ["nbd0", "nbd7.1"])
      #expect(taken.map(\.fd) == [3, 4])
      #expect(taken.allSatisfy { fcntl($0.fd, F_GETFD) & FD_CLOEXEC != 0 })
      let again = try ListenDescriptors.take()
      #expect(again.isEmpty)
      #expect(getenv("LISTEN_FDNAMES") == nil)
    }
  }

  @Test("what was meant for another process is left alone")
  func otherProcess() async {
    await #expect(processExitsWith: .success) {
      setenv("LISTEN_PID", "1", 1)
      setenv("LISTEN_FDS", "2", 1)
      let again = try ListenDescriptors.take()
      #expect(again.isEmpty)
    }
  }

  @Test("an environment that lies is an error", arguments: ["-1", "x", "1000"])
  func lies(count: String) async {
    await #expect(processExitsWith: .success) { [count] in
      setenv("LISTEN_PID", "\(getpid())", 1)
      setenv("LISTEN_FDS", count, 1)
      #expect(throws: SystemdError.self) { try ListenDescriptors.take() }
    }
  }
}

private func pipePair() throws -> (reading: Int32, writing: Int32) {
  var fds: [Int32] = [0, 0]
  if pipe(&fds) != 0 { throw SystemdError.notify(code: errno) }
  return (fds[0], fds[1])
}

/// The file behind a descriptor.
private func identity(_ fd: Int32) -> [UInt64] {
  var status = stat()
  return fstat(fd, &status) == 0 ? [UInt64(status.st_dev), UInt64(status.st_ino)] : []
}

extension NotifySocket {
  /// Waits for a datagram, and takes the descriptors that came with it.
  func nextWithDescriptors() -> (text: String, fds: [Int32]) {
    var bytes = [UInt8](repeating: 0, count: 4096)
    // SCM_MAX_FD of them, behind a header of two words.
    let header = 16
    var control = [UInt8](repeating: 0, count: header + 253 * 4 + 64)
    let (count, length) = bytes.withUnsafeMutableBytes { bytes in
      control.withUnsafeMutableBytes { control in
        var vector = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
        return withUnsafeMutablePointer(to: &vector) { vector in
          var message = msghdr()
          message.msg_iov = vector
          message.msg_iovlen = 1
          message.msg_control = control.baseAddress
          message.msg_controllen = control.count
          return (recvmsg(fd, &message, 0), message.msg_controllen)
        }
      }
    }
    let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
    guard length > header else { return (text, []) }
    return control.withUnsafeBytes { raw in
      // The manager asks for credentials too; nobody does here, so that descriptors are all there is.
      let size = raw.loadUnaligned(as: Int.self)
      let fds = stride(from: header, to: min(size, raw.count), by: 4).map {
        raw.loadUnaligned(fromByteOffset: $0, as: Int32.self)
      }
      return (text, fds)
    }
  }
}
