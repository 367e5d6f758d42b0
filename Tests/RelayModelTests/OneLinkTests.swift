import NBDProtocol
import Testing

@testable import RelayModel

@Suite struct OneLinkTests {
  @Test("a write goes out under another cookie, and its answer comes back under the kernel's")
  func write() throws {
    let scene = Scene(LedgerLimits(unflushedBytes: 0))
    scene.join(1)
    scene.write(77, at: 1)
    let sent = scene.sent()
    let write = try #require(sent.first)
    #expect(sent.count == 1)
    #expect(write.payload == PayloadLocation(segment: 77, offset: 28))
    #expect(write.isWhole)
    #expect(scene.expected(write)?.destination == .kernel(cookie: 77))
    #expect(scene.reply(write) == .answer(kernelCookie: 77, error: 0))
    #expect(scene.released() == [77])
  }
}
