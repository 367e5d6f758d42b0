import Glibc
import LinuxKernel
import NBDProtocol

/// One client: its socket, what has arrived and what has still to go.
struct Connection {
  enum Phase {
    case handshake(ServerHandshake)
    case transmission
  }

  /// What reading led to.
  enum Input {
    case request(Request, payload: [UInt8])
    /// The handshake is over.
    case connected
    /// No more than the beginning of a request is there.
    case nothing
    /// Bytes that are no NBD.
    case senseless
  }

  /// No server takes more in one request.
  private static let longestPayload = 64 << 20

  let number: Int
  let socket: OpenFile
  let offer: Behaviour.Offer
  private(set) var phase: Phase
  private var input: [UInt8] = []
  private var position = 0
  private var output: [UInt8] = []
  /// The client sends nothing more.
  var isHalfClosed = false

  init(_ number: Int, _ socket: OpenFile, _ offer: Behaviour.Offer, _ phase: Phase) {
    self.number = number
    self.socket = socket
    self.offer = offer
    self.phase = phase
  }

  var isInTransmission: Bool { if case .transmission = phase { true } else { false } }
  var hasOutput: Bool { !output.isEmpty }

  /// Takes what the socket has. False when the connection has broken.
  mutating func receive() -> Bool {
    if position > 0 {
      input.removeFirst(position)
      position = 0
    }
    var chunk = [UInt8](repeating: 0, count: 256 << 10)
    while true {
      let count = recv(socket.number, &chunk, chunk.count, 0)
      if count > 0 {
        input.append(contentsOf: chunk[..<count])
        if count < chunk.count { return true }
      } else if count == 0 {
        isHalfClosed = true
        return true
      } else if errno == EAGAIN {
        return true
      } else if errno != EINTR {
        return false
      }
    }
  }

  /// The next thing in what has arrived; handshake answers go out on the way.
  mutating func next() -> Input {
    switch phase {
    case .transmission: return nextRequest()
    case .handshake(var handshake):
      while true {
        var rest = input[position...]
        let step = handshake.advance(&rest)
        position = rest.startIndex
        switch step {
        case .needsMore:
          phase = .handshake(handshake)
          return .nothing
        case .send(let bytes): send(bytes)
        case .transmission(let bytes):
          send(bytes)
          phase = .transmission
          return .connected
        case .close(let bytes):
          send(bytes)
          phase = .handshake(handshake)
          return .senseless
        }
      }
    }
  }

  private mutating func nextRequest() -> Input {
    let available = input.count - position
    guard available >= Request.byteCount else { return .nothing }
    let header = Array(input[position..<position + Request.byteCount])
    guard let request = try? Request(reading: header.span.bytes) else { return .senseless }
    let payload = request.command == .write ? Int(request.length) : 0
    guard payload <= Self.longestPayload else { return .senseless }
    guard available >= Request.byteCount + payload else { return .nothing }
    let start = position + Request.byteCount
    position = start + payload
    return .request(request, payload: Array(input[start..<start + payload]))
  }

  /// Sends, and keeps what does not fit now.
  mutating func send(_ bytes: [UInt8]) {
    output += bytes
    flushOutput()
  }

  mutating func flushOutput() {
    var sent = 0
    while sent < output.count {
      let count = output[sent...].withUnsafeBytes {
        Glibc.send(socket.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
      }
      if count >= 0 {
        sent += count
      } else if errno == EAGAIN {
        break
      } else if errno != EINTR {
        sent = output.count
      }
    }
    output.removeFirst(sent)
  }
}
