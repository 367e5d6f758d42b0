import NBDProtocol
import RelayModel

/// The kernel's side of a device: what it has asked, and what each block may hold according to what it was told.
///
/// Any content that was not the kernel's to know (after a trim, or after a loss that was reported) is `anything`.
final class KernelModel {
  static let anything = Content.max

  struct Pending {
    let request: Request
    let order: Int
    let first: Int
    let count: Int
    /// Of a READ for its blocks, of a FLUSH for all: what each could hold at any time since it was asked.
    var allowed: [[Content]]
    let owesFlush: Bool
  }

  private(set) var pending: [UInt64: Pending] = [:]
  /// What a read of the block may give now.
  private(set) var allowed: [[Content]]
  private var order = 0
  private var cookie: UInt64 = 0
  var violations: [String] = []
  /// A loss was reported that the kernel has not been told.
  private(set) var owesFlush = false
  private(set) var owesFUA = false

  init(blocks: Int) { allowed = Array(repeating: [0], count: blocks) }

  func complain(_ text: String) { violations.append(text) }

  static func content(_ cookie: UInt64, _ index: Int) -> Content { Content(cookie) * 16 + Content(index) }

  func make(_ command: CommandCode, _ flags: CommandFlags, first: Int, count: Int) -> Request {
    cookie += 1
    order += 1
    let isRanged = command != .flush
    let request = Request(
      command, flags: flags, cookie: cookie, offset: isRanged ? UInt64(first) * 512 : 0,
      length: isRanged ? UInt32(count) * 512 : 0)
    var mine: [[Content]] = []
    if command == .read { mine = Array(allowed[first..<first + count]) }
    if command == .flush { mine = allowed }
    pending[cookie] = Pending(
      request: request, order: order, first: isRanged ? first : 0, count: isRanged ? count : allowed.count,
      allowed: mine, owesFlush: owesFlush)
    if command.isWriting {
      for index in 0..<count { allow(Self.result(request, index), at: first + index) }
    }
    return request
  }

  private static func result(_ request: Request, _ index: Int) -> Content {
    switch request.command {
    case .write: content(request.cookie, index)
    case .trim: anything
    default: 0
    }
  }

  private func allow(_ content: Content, at block: Int) {
    if !allowed[block].contains(content) { allowed[block].append(content) }
    for (cookie, one) in pending where !one.allowed.isEmpty && block >= one.first && block < one.first + one.count {
      if !one.allowed[block - one.first].contains(content) {
        pending[cookie]?.allowed[block - one.first].append(content)
      }
    }
  }

  /// An answer; `data` is that of a successful READ. Says whether `server` fits what the answer promises.
  func answered(_ cookie: UInt64, error: UInt32, data: [Content], _ server: ForgetfulServer) {
    guard let one = pending.removeValue(forKey: cookie) else {
      return complain("request \(cookie) was answered twice, or was not asked")
    }
    let isFUA = one.request.flags.contains(.fua) && server.limits.canFUA
    switch (one.request.command, error) {
    case (.read, 0):
      guard data.count == one.count else { return complain("READ \(cookie) has \(data.count) blocks") }
      for index in 0..<one.count where !fits(data[index], one.allowed[index]) {
        complain("READ \(cookie): block \(one.first + index) has \(data[index]), not one of \(one.allowed[index])")
      }
    case (.flush, 0):
      if owesFlush { complain("FLUSH \(cookie) succeeded though data was lost") }
      checkSafe(one.allowed, server, "after FLUSH \(cookie)")
    case (.flush, _): owesFlush = false
    case (let command, 0) where command.isWriting:
      if isFUA, owesFUA { complain("FUA \(cookie) succeeded though data was lost") }
      settle(one)
      if isFUA || !server.limits.canFlush { checkSafe(one, server) }
    case (let command, 5) where command.isWriting && isFUA: owesFUA = false
    default: break
    }
  }

  private func fits(_ content: Content, _ allowed: [Content]) -> Bool {
    allowed.contains(content) || allowed.contains(Self.anything)
  }

  /// Acknowledged: its blocks hold it, or what was asked after it and is not answered.
  private func settle(_ one: Pending) {
    for index in 0..<one.count {
      allowed[one.first + index] = [Self.result(one.request, index)]
    }
    for later in pending.values where later.order > one.order && later.request.command.isWriting {
      for index in 0..<later.count where later.first + index >= one.first && later.first + index < one.first + one.count
      {
        let content = Self.result(later.request, index)
        if !allowed[later.first + index].contains(content) { allowed[later.first + index].append(content) }
      }
    }
  }

  private func checkSafe(_ one: Pending, _ server: ForgetfulServer) {
    for block in one.first..<one.first + one.count {
      for content in server.afterCrash(block) where !fits(content, allowed[block]) {
        complain(
          "after FUA \(one.request.cookie) a crash may leave \(content) in block \(block), not \(allowed[block])")
      }
    }
  }

  /// No crash can take from the server what the kernel believes.
  func checkSafe(_ allowed: [[Content]]? = nil, _ server: ForgetfulServer, _ when: String) {
    for (block, contents) in (allowed ?? self.allowed).enumerated() {
      for content in server.afterCrash(block) where !fits(content, contents) {
        complain("\(when) a crash may leave \(content) in block \(block), not \(contents)")
      }
    }
  }

  func lost(offset: UInt64, length: UInt32) {
    for block in Int(offset / 512)..<Int((offset + UInt64(length)) / 512) { allow(Self.anything, at: block) }
    owe()
  }

  func owe() {
    owesFlush = true
    owesFUA = true
  }

  /// The kernel forgets what it has asked; it may have happened, or not.
  func forgetAll() { pending.removeAll() }
}

extension CommandCode {
  var isWriting: Bool { self == .write || self == .trim || self == .writeZeroes }
}
