import Glibc
import Testing

@testable import LinuxKernel

@Suite("addresses of sockets")
struct SocketAddressTests {
  @Test("a path ends with a NUL")
  func path() throws {
    let address = try SocketAddress.unix(path: "/run/nbd.sock", isAbstract: false)
    #expect(address.family == AF_UNIX)
    #expect(!address.isIP)
    #expect(Array(address.bytes.dropFirst(2)) == Array("/run/nbd.sock".utf8) + [0])
    #expect(address.description == "/run/nbd.sock")
  }

  @Test("an abstract name begins with a NUL and ends with the address")
  func abstract() throws {
    let address = try SocketAddress.unix(path: "nbd", isAbstract: true)
    #expect(Array(address.bytes.dropFirst(2)) == [0] + Array("nbd".utf8))
    #expect(address.description == "@nbd")
  }

  @Test("a name fills sun_path and no more", arguments: [true, false])
  func longest(isAbstract: Bool) throws {
    let longest = String(repeating: "x", count: 107)
    #expect(try SocketAddress.unix(path: longest, isAbstract: isAbstract).bytes.count == MemoryLayout<sockaddr_un>.size)
    let error = #expect(throws: SystemCallError.self) {
      try SocketAddress.unix(path: longest + "x", isAbstract: isAbstract)
    }
    #expect(error?.code == ENAMETOOLONG)
  }

  @Test("an empty name, which would bind to anything, is refused", arguments: [true, false])
  func empty(isAbstract: Bool) {
    let error = #expect(throws: SystemCallError.self) { try SocketAddress.unix(path: "", isAbstract: isAbstract) }
    #expect(error?.code == EINVAL)
  }

  @Test("vsock has two numbers")
  func vsock() {
    let address = SocketAddress.vsock(cid: 3, port: 10_809)
    #expect(address.family == AF_VSOCK)
    #expect(address.bytes.count == 16)
    #expect(address.description == "vsock 3:10809")
  }

  @Test(
    "IP addresses are written with their port, IPv6 in brackets",
    arguments: [
      ("192.0.2.1", AF_INET, "192.0.2.1 port 10809"), ("2001:db8::1", AF_INET6, "[2001:db8::1] port 10809"),
      ("::1", AF_INET6, "[::1] port 10809"),
    ])
  func ip(host: String, family: Int32, text: String) async throws {
    let addresses = try await lookUp(host)
    #expect(addresses.map(\.description) == [text])
    #expect(addresses.map(\.family) == [family])
    #expect(addresses.allSatisfy { $0.isIP })
  }

  @Test("a link-local address keeps its zone")
  func zone() async throws {
    #expect(try await lookUp("fe80::1%lo").map(\.description) == ["[fe80::1%lo] port 10809"])
  }
}

func lookUp(_ host: String, by resolver: Resolver = Resolver()) async throws -> [SocketAddress] {
  try await withCheckedContinuation { continuation in
    resolver.resolve(host: host, port: 10_809) { continuation.resume(returning: $0) }
  }.get()
}
