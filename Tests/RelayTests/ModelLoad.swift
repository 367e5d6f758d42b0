import ForgetfulServer
import NBDProtocol

/// A load of chance, and the image that it should leave: requests in flight never overlap, so that there is one truth.
struct ModelLoad {
  private(set) var image: [UInt8]
  private(set) var mismatches: [String] = []
  /// Answered.
  private(set) var counts: [CommandCode: Int] = [:]
  /// In bytes.
  var longest = 16384
  private var chance: SeededRandom
  private var flying: [UInt64: Request] = [:]
  private var cookie: UInt64 = 0
  private var written = 0

  init(size: Int, seed: UInt64) {
    image = [UInt8](repeating: 0, count: size)
    chance = SeededRandom(seed: seed)
  }

  /// The next request with its payload, which the image has already.
  mutating func next() -> (Request, [UInt8]) {
    cookie += 1
    let roll = Int.random(in: 0..<100, using: &chance)
    let command: CommandCode =
      switch roll {
      case ..<40: .read
      case ..<88: .write
      case ..<92: .trim
      case ..<96: .writeZeroes
      default: .flush
      }
    var request = Request(command, cookie: cookie)
    guard command != .flush else {
      flying[cookie] = request
      return (request, [])
    }
    repeat {
      request.length = UInt32(Int.random(in: 1...longest / 512, using: &chance) * 512)
      request.offset = UInt64(Int.random(in: 0...(image.count - Int(request.length)) / 512, using: &chance) * 512)
    } while flying.values.contains { overlap($0, request) }
    if command == .write, roll % 5 == 0 { request.flags = .fua }
    flying[cookie] = request
    let range = Int(request.offset)..<Int(request.offset) + Int(request.length)
    switch command {
    case .write:
      written += 1
      let data = pattern(range.count, written)
      image.replaceSubrange(range, with: data)
      return (request, data)
    case .trim, .writeZeroes: image.replaceSubrange(range, with: repeatElement(0, count: range.count))
    default: break
    }
    return (request, [])
  }

  private func overlap(_ one: Request, _ other: Request) -> Bool {
    one.offset < other.offset + UInt64(other.length) && other.offset < one.offset + UInt64(one.length)
  }

  mutating func check(_ reply: FakeKernel.Reply) {
    guard let request = flying.removeValue(forKey: reply.cookie) else {
      mismatches.append("an answer to \(reply.cookie)")
      return
    }
    counts[request.command, default: 0] += 1
    if let error = reply.error { mismatches.append("\(request.command) at \(request.offset): \(error)") }
    guard request.command == .read, reply.error == nil else { return }
    let start = Int(request.offset)
    if reply.data[...] != image[start..<start + Int(request.length)] { mismatches.append("read at \(request.offset)") }
  }

  /// As many requests, at most `depth` at a time.
  mutating func run(_ count: Int, depth: Int, on kernel: FakeKernel) throws {
    var sent = 0
    while sent < count || !flying.isEmpty {
      while sent < count, flying.count < depth {
        let (request, payload) = next()
        kernel.expect(request)
        try kernel.sendBytes(request.bytes + payload)
        sent += 1
      }
      check(try kernel.receive())
    }
  }
}
