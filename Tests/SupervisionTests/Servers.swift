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
  init(_ arguments: String..., at name: String = "server", in directory: TemporaryDirectory) async throws {
    socket = "\(directory.path)/\(name)"
    let (pidFile, log) = ("\(socket).pid", "\(socket).log")
    let program = try #require(installed("nbdkit"), "nbdkit is not installed")
    child = try await ChildProcess.start(
      program, ["-f", "-v", "-t", "1", "-P", pidFile, "-U", socket] + arguments, output: log, errors: log)
    // Written when it serves.
    try await eventually("nbdkit serves", else: (try? text(of: log)) ?? "") {
      readSmallFile(pidFile)?.isEmpty == false
    }
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
