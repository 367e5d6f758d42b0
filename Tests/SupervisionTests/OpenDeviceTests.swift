import AttachmentModel
import Control
import Foundation
import Testing

@testable import Supervision

@Suite("devices that a process has open", .requires("nbdkit"))
struct OpenDeviceTests {
  @Test("a removed attachment is kept while processes have its device open, and their coming and going is told once")
  func removed() async throws {
    try await withLab { lab in
      let server = try await attach(lab)
      try lab.uses.open(7, by: "qemu", pid: 1 << 30)
      await lab.supervisor.reconcile([])
      #expect(
        await lab.report("data")?.activity
          == "removed from the configuration, and kept while open in qemu (process 1073741824)")

      try lab.uses.open(7, by: "dd", pid: 1 << 29)
      try await eventually("the report names the other process too") {
        await lab.report("data")?.activity?.contains("dd (process 536870912)") == true
      }
      try await lab.settle([], server.uri())
      #expect(
        lab.log(of: "data").filter { $0.contains("is no longer configured") } == [
          "is no longer configured, but /dev/nbd7 is open in qemu (process 1073741824): kept as it was until that ends"
        ])

      try lab.uses.close(pid: 1 << 29)
      try lab.uses.close(pid: 1 << 30)
      try await lab.waitUntilGone("data")
    }
  }

  @Test("an operator's stop is refused, and names the process")
  func stop() async throws {
    try await withLab { lab in
      _ = try await attach(lab)
      try lab.uses.open(7, by: "qemu", pid: 1 << 30)
      await #expect(throws: ActionError.inUse(name: "data", uses: ["open in qemu (process 1073741824)"])) {
        try await lab.supervisor.stop("data", force: false)
      }
      #expect(await lab.report("data")?.state == .attached)
      try lab.uses.close(pid: 1 << 30)
      try await lab.supervisor.stop("data", force: false)
      #expect(await lab.report("data")?.state == .stopped)
    }
  }

  /// One attachment `data` on /dev/nbd7.
  private func attach(_ lab: SupervisionLab) async throws -> Server {
    let server = try await Server("memory", "1M", in: lab.directory)
    await lab.supervisor.reconcile([try lab.spec("data", server.uri(), device: .index(7))])
    try await lab.wait(for: "data", .attached)
    return server
  }
}

extension FakeUses {
  /// A process begins that has the device open. Its name is there last, so that it is seen whole or not at all.
  fileprivate func open(_ index: Int, by name: String, pid: Int) throws {
    let files = FileManager.default
    try files.createDirectory(atPath: "\(procfs)/\(pid)/fd", withIntermediateDirectories: true)
    try files.createSymbolicLink(atPath: "\(procfs)/\(pid)/fd/3", withDestinationPath: "/dev/nbd\(index)")
    try Data("\(name)\n".utf8).write(to: URL(fileURLWithPath: "\(procfs)/\(pid)/comm"), options: .atomic)
  }

  fileprivate func close(pid: Int) throws { try FileManager.default.removeItem(atPath: "\(procfs)/\(pid)") }
}
