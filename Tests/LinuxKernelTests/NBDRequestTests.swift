import Testing

@testable import LinuxKernel

/// All of them were answered by Linux 6.1 and 6.12 as said in the driver.
@Suite("requests to the nbd driver")
struct NBDRequestTests {
  @Test("CONNECT says everything that the kernel would otherwise guess or keep")
  func connect() {
    let request = NBDConnectRequest(
      index: 5, size: 64 << 20, blockSize: 512, serverFlags: 0x56d, timeoutSeconds: 7,
      deadConnectionTimeoutSeconds: 30, backend: "nbdattach:data")
    #expect(
      encoded(.connect(request, sockets: [9, 258]))
        == bytes(
          """
          94 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 | 148 bytes to family 32, NLM_F_REQUEST | NLM_F_ACK
          01 01 00 00                         | NBD_CMD_CONNECT, NBD_GENL_VERSION
          08 00 01 00 05 00 00 00             | NBD_ATTR_INDEX
          0c 00 02 00 00 00 00 04 00 00 00 00 | NBD_ATTR_SIZE_BYTES
          0c 00 03 00 00 02 00 00 00 00 00 00 | NBD_ATTR_BLOCK_SIZE_BYTES
          0c 00 05 00 6d 05 00 00 00 00 00 00 | NBD_ATTR_SERVER_FLAGS
          0c 00 06 00 00 00 00 00 00 00 00 00 | NBD_ATTR_CLIENT_FLAGS
          0c 00 04 00 07 00 00 00 00 00 00 00 | NBD_ATTR_TIMEOUT
          0c 00 08 00 1e 00 00 00 00 00 00 00 | NBD_ATTR_DEAD_CONN_TIMEOUT
          13 00 0a 00                         | NBD_ATTR_BACKEND_IDENTIFIER, 19 bytes
          6e 62 64 61 74 74 61 63 68 3a 64 61 74 61 00 | "nbdattach:data" and its NUL
          00                                  | padding
          1c 00 07 80                         | NBD_ATTR_SOCKETS, nested
          0c 00 01 80 08 00 01 00 09 00 00 00 | NBD_SOCK_ITEM with NBD_SOCK_FD 9
          0c 00 01 80 08 00 01 00 02 01 00 00 | NBD_SOCK_ITEM with NBD_SOCK_FD 258
          """))
  }

  @Test("CONNECT without an index leaves the choice to the kernel, and a timeout of 0 is sent")
  func connectAny() {
    let request = NBDConnectRequest(index: nil, size: 64 << 20, blockSize: 512, serverFlags: 1)
    #expect(
      encoded(.connect(request, sockets: [7]))
        == bytes(
          """
          60 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 01 01 00 00 | NBD_CMD_CONNECT
          0c 00 02 00 00 00 00 04 00 00 00 00 | NBD_ATTR_SIZE_BYTES
          0c 00 03 00 00 02 00 00 00 00 00 00 | NBD_ATTR_BLOCK_SIZE_BYTES
          0c 00 05 00 01 00 00 00 00 00 00 00 | NBD_ATTR_SERVER_FLAGS
          0c 00 06 00 00 00 00 00 00 00 00 00 | NBD_ATTR_CLIENT_FLAGS
          0c 00 04 00 00 00 00 00 00 00 00 00 | NBD_ATTR_TIMEOUT: the index would keep its last user's
          10 00 07 80 0c 00 01 80 08 00 01 00 07 00 00 00 | NBD_ATTR_SOCKETS
          """))
  }

  /// What nbd-client 3.24 with libnl 3.7 sent (strace -e sendmsg) for `-timeout 7 -block-size 512` with an export of
  /// 64 MiB: another program's reading of the same headers.
  private static let connectByNBDClient = bytes(
    """
    01 00 00 00                         | NBD_CMD_CONNECT; its version 0 is one that the kernel does not look at
    08 00 01 00 05 00 00 00             | NBD_ATTR_INDEX
    0c 00 02 00 00 00 00 04 00 00 00 00 | NBD_ATTR_SIZE_BYTES
    0c 00 03 00 00 02 00 00 00 00 00 00 | NBD_ATTR_BLOCK_SIZE_BYTES
    0c 00 05 00 6d 05 00 00 00 00 00 00 | NBD_ATTR_SERVER_FLAGS
    0c 00 04 00 07 00 00 00 00 00 00 00 | NBD_ATTR_TIMEOUT
    10 00 07 80 0c 00 01 80 08 00 01 00 03 00 00 00 | NBD_ATTR_SOCKETS
    """)

  @Test("CONNECT has every attribute of nbd-client's with the same bytes, and its client flags besides")
  func connectAsNBDClient() throws {
    let request = NBDConnectRequest(
      index: 5, size: 64 << 20, blockSize: 512, serverFlags: 0x56d, timeoutSeconds: 7)
    let ours = try NetlinkAttribute.parse(encoded(.connect(request, sockets: [3]))[20...])
    let theirs = try NetlinkAttribute.parse(Self.connectByNBDClient[4...])
    #expect(theirs.count == 6)
    #expect(ours.filter { $0.type != 6 } == theirs)
  }

  @Test("DISCONNECT is what nbd-client -d sends")
  func disconnect() {
    #expect(
      encoded(.disconnect(index: 5))
        == bytes(
          """
          1c 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 | 28 bytes
          02 01 00 00             | NBD_CMD_DISCONNECT
          08 00 01 00 05 00 00 00 | NBD_ATTR_INDEX
          """))
  }

  @Test("RECONFIGURE with links names the backend, and no timeouts unless they are to change")
  func links() {
    #expect(
      encoded(.reconfigure(index: 5, backend: "nbdattach:data", .links([13])))
        == bytes(
          """
          40 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 | 64 bytes
          03 01 00 00             | NBD_CMD_RECONFIGURE
          08 00 01 00 05 00 00 00 | NBD_ATTR_INDEX
          13 00 0a 00 6e 62 64 61 74 74 61 63 68 3a 64 61 74 61 00 00 | NBD_ATTR_BACKEND_IDENTIFIER
          10 00 07 80 0c 00 01 80 08 00 01 00 0d 00 00 00 | NBD_ATTR_SOCKETS
          """))
    #expect(
      encoded(
        .reconfigure(index: 5, backend: nil, .links([13], timeoutSeconds: 0, deadConnectionTimeoutSeconds: 60)))
        == bytes(
          """
          44 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 03 01 00 00 | NBD_CMD_RECONFIGURE
          08 00 01 00 05 00 00 00             | NBD_ATTR_INDEX
          0c 00 04 00 00 00 00 00 00 00 00 00 | NBD_ATTR_TIMEOUT
          0c 00 08 00 3c 00 00 00 00 00 00 00 | NBD_ATTR_DEAD_CONN_TIMEOUT
          10 00 07 80 0c 00 01 80 08 00 01 00 0d 00 00 00 | NBD_ATTR_SOCKETS
          """))
  }

  @Test("RECONFIGURE with a size has no sockets, not even an empty list")
  func size() {
    #expect(
      encoded(.reconfigure(index: 5, backend: "nbdattach:data", .size(128 << 20)))
        == bytes(
          """
          3c 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 03 01 00 00 | NBD_CMD_RECONFIGURE
          08 00 01 00 05 00 00 00             | NBD_ATTR_INDEX
          13 00 0a 00 6e 62 64 61 74 74 61 63 68 3a 64 61 74 61 00 00 | NBD_ATTR_BACKEND_IDENTIFIER
          0c 00 02 00 00 00 00 08 00 00 00 00 | NBD_ATTR_SIZE_BYTES
          """))
  }

  @Test("STATUS of all devices names none")
  func status() {
    #expect(
      encoded(.status(index: nil))
        == bytes("14 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 05 01 00 00 | NBD_CMD_STATUS"))
    #expect(
      encoded(.status(index: 77))
        == bytes(
          """
          1c 00 00 00 20 00 05 00 02 00 00 00 00 00 00 00 05 01 00 00 | NBD_CMD_STATUS
          08 00 01 00 4d 00 00 00 | NBD_ATTR_INDEX
          """))
  }

  @Test(
    "an index that would mean any or all devices, or that is cut, is never sent", arguments: [-1, 1 << 31, 1 << 32])
  func badIndex(index: Int) {
    let connect = NBDConnectRequest(index: index, size: 512, blockSize: 512, serverFlags: 0)
    for request in [
      NBDRequest.connect(connect, sockets: [1]), .reconfigure(index: index, backend: nil, .size(512)),
      .disconnect(index: index), .status(index: index),
    ] {
      #expect(request.message(family: 32, sequence: 1) == nil)
    }
  }

  @Test("what does not fit into a message is not sent cut")
  func tooLong() {
    let connect = NBDConnectRequest(
      index: 0, size: 512, blockSize: 512, serverFlags: 0, backend: String(repeating: "b", count: 70000))
    #expect(NBDRequest.connect(connect, sockets: [1]).message(family: 32, sequence: 1) == nil)
    let sockets = [Int32](repeating: 1, count: 6000)
    #expect(NBDRequest.reconfigure(index: 0, backend: nil, .links(sockets)).message(family: 32, sequence: 1) == nil)
  }

  @Test("timeouts that would wrap in the kernel are cut to what it can keep")
  func longTimeouts() throws {
    let connect = NBDConnectRequest(
      index: 0, size: 512, blockSize: 512, serverFlags: 0, timeoutSeconds: .max, deadConnectionTimeoutSeconds: .max)
    let attributes = try NetlinkAttribute.parse(encoded(.connect(connect, sockets: []))[20...])
    let timeout = try #require(attributes.first { $0.type == 4 }).number(UInt64.self)
    let deadTimeout = try #require(attributes.first { $0.type == 8 }).number(UInt64.self)
    // The kernel multiplies both by HZ, 1000 on many machines: into an unsigned int, and into a signed long.
    #expect(timeout * 1000 <= UInt64(UInt32.max))
    #expect(timeout > 86_400)
    #expect(deadTimeout * 1000 <= UInt64(Int64.max))
    #expect(deadTimeout == NBDConnectRequest.endlessSeconds)
  }

  private func encoded(_ request: NBDRequest) -> [UInt8] {
    request.message(family: 32, sequence: 2)?.bytes ?? []
  }
}
