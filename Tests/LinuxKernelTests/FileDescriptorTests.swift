import Glibc
import Testing

@testable import LinuxKernel

@Suite("open files")
struct FileDescriptorTests {
  @Test("a descriptor is closed when its owner goes, and not before")
  func closes() throws {
    let pair = try Pair()
    do {
      let owner = FileDescriptor(owning: pair.end)
      #expect(isOpen(owner.number))
      #expect(pair.isPending)
    }
    #expect(pair.isEnded)
  }

  @Test("a descriptor that was given up is its new owner's to close")
  func release() throws {
    let pair = try Pair()
    let number = FileDescriptor(owning: pair.end).release()
    #expect(number == pair.end)
    #expect(pair.isPending)
    close(number)
    #expect(pair.isEnded)
  }

  @Test("a duplicate keeps the file open, and is closed on exec")
  func duplicate() throws {
    let pair = try Pair()
    let copy = try FileDescriptor.duplicating(pair.end)
    close(pair.end)
    #expect(pair.isPending)
    #expect(fcntl(copy.number, F_GETFD) & FD_CLOEXEC != 0)
  }

  @Test("what can't be opened says the path and the reason")
  func missing() {
    let error = #expect(throws: SystemCallError.self) { _ = try FileDescriptor.open("/nonexistent").number }
    #expect(error?.description == "open /nonexistent: No such file or directory")
  }

  // Descriptors belong to the whole process, hence one of its own.
  @Test("each descriptor is closed exactly once, and none is left")
  func leaks() async {
    await #expect(processExitsWith: .success) {
      let before = openFiles()
      for _ in 0..<200 {
        let file = try FileDescriptor.open("/dev/null")
        _ = consume file
        // It usually takes the number that is free now: a second close would hit it.
        let next = try FileDescriptor.open("/dev/zero")
        let released = try FileDescriptor.duplicating(next.number).release()
        #expect(fcntl(released, F_GETFD) >= 0)
        close(released)
        #expect(fcntl(next.number, F_GETFD) >= 0)
        #expect(readSmallFile("/proc/self/stat") != nil)
        #expect(readSmallFile("/proc/self/maps", limit: 10) == nil)
        #expect(directoryEntries("/proc/self").contains("fd"))
      }
      // The runtime may have opened something of its own meanwhile.
      #expect(openFiles() < before + 20)
    }
  }

  @Test("a small file loses its final newline alone, and above the limit counts as unreadable")
  func smallFiles() throws {
    let directory = try TemporaryDirectory()
    #expect(readSmallFile(try directory.write("a\n\n", to: "lines")) == "a\n")
    #expect(readSmallFile(try directory.write("", to: "empty")) == "")
    let long = try directory.write(String(repeating: "x", count: 10_000), to: "long")
    #expect(readSmallFile(long)?.utf8.count == 10_000)
    #expect(readSmallFile(long, limit: 9_999) == nil)
    #expect(readSmallFile(directory.path) == nil)
    #expect(readSmallFile("\(directory.path)/none") == nil)
  }

  private func isOpen(_ number: Int32) -> Bool { fcntl(number, F_GETFD) >= 0 }
}

/// Two ends of a connection: what becomes of `end` shows at the other.
private final class Pair {
  /// Not owned.
  let end: Int32
  private let other: FileDescriptor

  init() throws {
    var ends: [Int32] = [0, 0]
    let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
    try #require(socketpair(AF_UNIX, type, 0, &ends) == 0)
    end = ends[0]
    other = FileDescriptor(owning: ends[1])
  }

  /// The end is open and has said nothing.
  var isPending: Bool {
    var byte: UInt8 = 0
    return read(other.number, &byte, 1) == -1 && errno == EAGAIN
  }

  /// The end is closed.
  var isEnded: Bool {
    var byte: UInt8 = 0
    return read(other.number, &byte, 1) == 0
  }
}

/// How many descriptors this process has open, not counting the look itself.
func openFiles() -> Int { directoryEntries("/proc/self/fd").count - 1 }

@Suite("errors of system calls")
struct SystemCallErrorTests {
  @Test("the text has the call and what the C library says of the errno")
  func text() {
    #expect(SystemCallError("connect", ECONNREFUSED).description == "connect: Connection refused")
    #expect(SystemCallError.text(of: EBUSY) == "Device or resource busy")
    #expect(SystemCallError.text(of: 99_999) == "Unknown error 99999")
    #expect(SystemCallError.text(of: -1) == "Unknown error -1")
  }

  @Test("a call that a signal interrupted is made again, and no other")
  func interruption() throws {
    var calls = 0
    let result = try retryingOnEINTR("call") { () -> Int in
      calls += 1
      errno = EINTR
      return calls < 3 ? -1 : 7
    }
    #expect(result == 7)
    #expect(calls == 3)
    let error = #expect(throws: SystemCallError.self) {
      try retryingOnEINTR("call") { () -> Int in
        errno = EIO
        return -1
      }
    }
    #expect(error == SystemCallError("call", EIO))
  }
}
