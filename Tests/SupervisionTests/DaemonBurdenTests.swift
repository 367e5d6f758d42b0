import Control
import Foundation
import Glibc
import LinuxKernel
import Testing

@Suite("the daemon under a burden")
struct DaemonBurdenTests {
  @Test("hundreds of attachments to a silent server cost a socket each, few threads, and no start")
  func silentServer() async throws {
    let count = 400
    let directory = try TemporaryDirectory()
    let manager = try NotifySocket("\(directory.path)/notify")
    let silent = try SilentServer(in: directory)
    try directory.configure("startup-timeout: 1s")
    try directory.declare((0..<count).map { "silent\($0): {uri: '\(silent.uri)', connect-timeout: 1h}" })
    let daemon = try await DaemonProcess.start(in: directory, manager: manager)
    try await manager.wait(for: ["READY=1"])
    #expect(manager.status?.hasPrefix("\(count) connecting") == true)

    let process = "/proc/\(daemon.child.pid)"
    #expect(try FileManager.default.contentsOfDirectory(atPath: "\(process)/fd").count < count + 50)
    let status = try text(of: "\(process)/status")
    // The program alone takes 30 MB where it is built for debugging.
    #expect(try number("VmRSS", in: status) < 100_000)
    #expect(try number("Threads", in: status) < 50)
    #expect(try await daemon.end() == 0)
  }

  @Test("a flood of the control socket neither stops the daemon nor keeps others from an answer")
  func flood() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["data: {uri: '\(directory.absent())'}"])
    let daemon = try await DaemonProcess.start(in: directory)
    try await daemon.waitForLog("data: waiting")
    let call = #"{"method":"org.nbdattach.Status"}"# + "\0"
    let payloads = [
      "", "\0", "\0\0\0\0", "{", "{}\0", "[[[[[[[[", String(repeating: "[", count: 50_000) + "\0",
      String(repeating: "x", count: 200_000), String(repeating: call, count: 1000),
      #"{"method":"org.nbdattach.Status","parameters":{"name":"\u0000"}}"# + "\0",
      #"{"method":"\#(String(repeating: "a.", count: 20_000))"}"# + "\0",
    ]
    // None of them reads an answer, and all stay until the end.
    var clients: [FloodClient] = []
    for round in 0..<220 {
      clients.append(try FloodClient("\(directory.path)/control", payloads[round % payloads.count]))
    }
    #expect(try await daemon.status().attachments.map(\.name) == ["data"])
    #expect(clients.count == 220)
    #expect(try await daemon.end() == 0)
  }

  @Test("a log that nobody can write to does not stop the daemon")
  func noLog() async throws {
    let directory = try TemporaryDirectory()
    try directory.declare(["data: {uri: '\(directory.absent())'}"])
    try FileManager.default.createSymbolicLink(
      atPath: "\(directory.path)/full", withDestinationPath: "/dev/full")
    let daemon = try await DaemonProcess.start(in: directory, errors: "full")
    try await daemon.wait(forStatus: "the try") { $0.attachments.first?.failure != nil }
    #expect(try await daemon.end() == 0)
  }

  private func number(_ field: String, in status: String) throws -> Int {
    let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("\(field):") })
    let digits = line.split(whereSeparator: { $0 == "\t" || $0 == " " }).dropFirst().first
    return try #require(digits.flatMap { Int($0) })
  }
}

/// Sends what the socket takes at once, and then only stays.
private final class FloodClient {
  private let socket: FileDescriptor

  init(_ path: String, _ payload: String) throws {
    socket = FileDescriptor(owning: Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0))
    let address = try SocketAddress.unix(path: path, isAbstract: false)
    let number = socket.number
    let result = address.bytes.withUnsafeBytes { bytes in
      connect(number, bytes.bindMemory(to: sockaddr.self).baseAddress, socklen_t(bytes.count))
    }
    guard result == 0 else { throw SystemCallError("connect \(path)", errno) }
    let bytes = Array(payload.utf8)
    _ = send(number, bytes, bytes.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
  }
}
