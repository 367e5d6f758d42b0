import Foundation
import Glibc
import Testing

@testable import Control

@Suite("the control socket's name")
struct ListeningSocketTests {
  private func server(_ path: String, group: String? = nil) -> ControlServer {
    ControlServer(path: path, group: group) { snapshot() }
  }

  @Test("a socket that a dead daemon left is replaced")
  func stale() async throws {
    try await withDirectory { directory in
      let path = directory + "/control"
      close(try ListeningSocket(path: path, group: nil).fd)
      let server = server(path)
      try await server.start()
      let document = try await blocking { try ControlClient(path: path).status() }
      #expect(document.attachments.isEmpty)
      await server.stop()
    }
  }

  @Test("a socket that another daemon answers on is left alone")
  func alreadyServed() async throws {
    try await withServer { path in
      await #expect(throws: ControlError.alreadyServed(path: path)) { try await server(path).start() }
      let document = try await blocking { try ControlClient(path: path).status() }
      #expect(document.attachments.count == 1)
    }
  }

  @Test("a file that is no socket is left alone")
  func file() async throws {
    try await withDirectory { directory in
      let path = directory + "/control"
      try Data("precious".utf8).write(to: URL(filePath: path))
      await #expect(throws: ControlError.notASocket(path: path)) { try await server(path).start() }
      #expect(try String(contentsOfFile: path, encoding: .utf8) == "precious")
    }
  }

  @Test("a path too long, and a directory that is not there, are errors")
  func badPaths() async throws {
    let long = "/tmp/" + String(repeating: "x", count: 200)
    await #expect(throws: ControlError.pathTooLong(path: long)) { try await server(long).start() }
    await #expect(throws: ControlError.system(call: "bind", path: "/nonexistent/control.new", code: ENOENT)) {
      try await server("/nonexistent/control").start()
    }
  }

  @Test("root and the group may ask, nobody else", .enabled(if: getuid() == 0, "only root may give files away"))
  func permissions() async throws {
    try await withDirectory { directory in
      let path = directory + "/control"
      let server = server(path, group: "daemon")
      try await server.start()
      var status = stat()
      #expect(lstat(path, &status) == 0)
      #expect(status.st_mode & 0o7777 == 0o660)
      #expect(status.st_uid == 0)
      #expect(status.st_gid == getgrnam("daemon")?.pointee.gr_gid)
      await server.stop()
    }
  }

  @Test("a group that does not exist leaves the socket to root")
  func noGroup() async throws {
    try await withDirectory { directory in
      let path = directory + "/control"
      let server = server(path, group: "no-such-group-here")
      try await server.start()
      var status = stat()
      #expect(lstat(path, &status) == 0)
      #expect(status.st_mode & 0o7777 == 0o660)
      #expect(status.st_gid == getgid())
      await server.stop()
    }
  }

  @Test("the name goes with the server, but not one that another has taken over")
  func removal() async throws {
    try await withDirectory { directory in
      let path = directory + "/control"
      let first = server(path)
      try await first.start()
      await first.stop()
      #expect(!FileManager.default.fileExists(atPath: path))
      try await first.start()
      unlink(path)
      let second = server(path)
      try await second.start()
      await first.stop()
      #expect(FileManager.default.fileExists(atPath: path))
      await second.stop()
      #expect(try FileManager.default.contentsOfDirectory(atPath: directory).isEmpty)
    }
  }

  // Descriptors are counted for the whole process, hence the processes of their own.

  @Test("when a server has stopped every descriptor is closed")
  func descriptors() async {
    await #expect(processExitsWith: .success) {
      try await withServer { path in _ = try await blocking { try ControlClient(path: path).status() } }
      let before = try openDescriptors()
      try await withServer { path in
        let clients = try await blocking {
          let clients = try (0..<30).map { _ in try RawClient(path) }
          for client in clients {
            client.send(getInfo)
            _ = client.receive()
          }
          return clients
        }
        #expect(try openDescriptors() > before + 30)
        #expect(clients.count == 30)
      }
      #expect(try openDescriptors() == before)
    }
  }

  @Test("without a descriptor for a new client the server waits for one, and then serves")
  func outOfDescriptors() async {
    await #expect(processExitsWith: .success) {
      try await withServer { path in
        _ = try await blocking { try ControlClient(path: path).status() }
        let reply = try await blocking {
          let client = try RawClient(path)
          client.send(getInfo)
          _ = client.receive()
          // Takes every descriptor that is left.
          var limit = rlimit(rlim_cur: 200, rlim_max: 200)
          setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
          let second = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
          var spare: [Int32] = []
          while true {
            let fd = open("/dev/null", O_RDONLY)
            if fd < 0 { break }
            spare.append(fd)
          }
          let address = try SocketAddress(path: path)
          #expect(address.pass { connect(second, $0, $1) } == 0)
          let call = Array(getInfo.utf8)
          #expect(write(second, call, call.count) == call.count)
          // The first connection is still served while the second can't be accepted.
          client.send(getInfo)
          #expect(client.receive() != nil)
          for fd in spare { close(fd) }
          var byte: UInt8 = 0
          return read(second, &byte, 1)
        }
        #expect(reply == 1)
      }
    }
  }
}

private func openDescriptors() throws -> Int {
  try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
}
