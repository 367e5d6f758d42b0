import Foundation
import Glibc
import LinuxKernel
import Testing

extension Trait where Self == ConditionTrait {
  /// Skips where the program is not installed.
  static func requires(_ program: String) -> Self {
    .enabled(if: installed(program) != nil, "not installed: \(program)")
  }

  /// Skips where the daemon could attach a real device, which these tests neither expect nor want.
  static var requiresNoDevices: Self {
    .enabled(if: !FileManager.default.fileExists(atPath: "/sys/block/nbd0"), "the nbd module is loaded here")
  }
}

private func installed(_ program: String) -> String? {
  ["/usr/bin", "/usr/sbin", "/usr/local/bin"].map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
}

/// nbdkit on a Unix socket, which ends with its owner.
final class Server: Sendable {
  let socket: String
  private let child: ChildProcess

  /// Serves at `NAME` in `directory`.
  convenience init(_ arguments: String..., at name: String = "server", in directory: TemporaryDirectory) async throws {
    try await self.init(arguments, socket: "\(directory.path)/\(name)")
  }

  /// Serves whoever connects from now on in place of `other`, which goes on with those that it has.
  convenience init(_ arguments: String..., replacing other: Server) async throws {
    try await self.init(arguments, socket: other.socket)
  }

  private init(_ arguments: [String], socket: String) async throws {
    self.socket = socket
    unlink(socket)
    unlink("\(socket).pid")
    let (pidFile, log) = ("\(socket).pid", "\(socket).log")
    let program = try #require(installed("nbdkit"), "nbdkit is not installed")
    child = try await ChildProcess.start(
      program, ["-f", "-v", "-t", "1", "-P", pidFile, "-U", socket] + arguments, output: log, errors: log)
    // Written when it serves.
    try await eventually("nbdkit serves", else: (try? text(of: log)) ?? "") {
      readSmallFile(pidFile)?.isEmpty == false
    }
  }

  /// How many have connected so far.
  var connections: Int {
    ((try? text(of: "\(socket).log")) ?? "").components(separatedBy: "accepted connection").count - 1
  }

  /// Ends with all its connections, and returns when it is gone.
  func end() {
    child.signal(SIGKILL)
    while child.statusIfEnded == nil { usleep(1000) }
  }

  func uri(_ export: String = "") -> String { "nbd+unix:///\(export)?socket=\(socket)" }
}

/// Takes connections, and never says a word.
final class SilentServer: Sendable {
  let socket: String
  private let listener: FileDescriptor

  init(at name: String = "silent", in directory: TemporaryDirectory) throws {
    socket = "\(directory.path)/\(name)"
    let number = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    listener = FileDescriptor(owning: number)
    let address = try SocketAddress.unix(path: socket, isAbstract: false)
    let result = address.bytes.withUnsafeBytes { bytes in
      bind(number, bytes.bindMemory(to: sockaddr.self).baseAddress, socklen_t(bytes.count))
    }
    guard result == 0, listen(number, 4096) == 0 else { throw SystemCallError("bind \(socket)", errno) }
  }

  var uri: String { "nbd+unix:///?socket=\(socket)" }
}
