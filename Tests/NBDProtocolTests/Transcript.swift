import NBDProtocol
import Testing

/// One line of a conversation, in the order in which things happen on the connection.
enum Line {
  /// The server sends; the machine is fed exactly what it asks for, piece by piece.
  case server([UInt8])
  /// The client has sent this and nothing else, having read all that the server sent before.
  case client([UInt8])
  /// The client starts TLS; bytes of the server that are left over stay unread.
  case startsTLS
  /// The client has sent nothing more, and is done.
  case finishes(Handshake.Outcome)
  /// The client has sent nothing more, and gives up.
  case fails(HandshakeError)
  /// The server closes, and to the client that means this.
  case closes(HandshakeError)
  /// What the client sends if it leaves now.
  case leaves([UInt8])
  /// What the server sent and the client has not read.
  case unread([UInt8])
}

/// Plays a conversation against a fresh machine and checks each line.
@discardableResult
func play(
  _ goal: Handshake.Goal, _ security: Handshake.Security = .plain, _ lines: Line...,
  sourceLocation: SourceLocation = #_sourceLocation
) -> Handshake {
  var player = Player(goal, security, sourceLocation)
  for line in lines { player.play(line) }
  return player.machine
}

private struct Player {
  var machine: Handshake
  var step: Handshake.Step
  var unread: [UInt8] = []
  var unclaimed: [UInt8] = []
  var error: HandshakeError?
  let sourceLocation: SourceLocation

  init(_ goal: Handshake.Goal, _ security: Handshake.Security, _ sourceLocation: SourceLocation) {
    machine = Handshake(goal: goal, security: security)
    step = machine.start()
    self.sourceLocation = sourceLocation
  }

  mutating func play(_ line: Line) {
    switch line {
    case .server(let bytes):
      expectSilence()
      unread += bytes
      feed()
    case .client(let bytes):
      #expect(unclaimed == bytes, sourceLocation: sourceLocation)
      #expect(unread == [], "the client has not read these", sourceLocation: sourceLocation)
      unclaimed = []
    case .startsTLS:
      #expect(step.next == .startTLS, sourceLocation: sourceLocation)
      do throws(HandshakeError) { take(try machine.tlsEstablished()) } catch { self.error = error }
    case .finishes(let outcome):
      #expect(step.next == .finished(outcome), sourceLocation: sourceLocation)
      expectSilence()
      #expect(error == nil, sourceLocation: sourceLocation)
    case .fails(let expected):
      #expect(error == expected, sourceLocation: sourceLocation)
      expectSilence()
    case .closes(let expected):
      #expect(error == nil, sourceLocation: sourceLocation)
      #expect(machine.peerClosed() == expected, sourceLocation: sourceLocation)
    case .leaves(let bytes):
      #expect(machine.farewell == bytes, sourceLocation: sourceLocation)
    case .unread(let bytes):
      #expect(unread == bytes, sourceLocation: sourceLocation)
    }
  }

  private func expectSilence() {
    #expect(unclaimed == [], "the client sent what the transcript does not have", sourceLocation: sourceLocation)
  }

  private mutating func take(_ step: Handshake.Step) {
    self.step = step
    unclaimed += step.send
  }

  /// Gives the machine what it asks for, as long as it has nothing to say and the server's bytes suffice.
  private mutating func feed() {
    while error == nil, unclaimed.isEmpty, case .receive(let count) = step.next, unread.count >= count {
      guard (1...Handshake.maximumReceive).contains(count) else {
        Issue.record("asked for \(count) bytes", sourceLocation: sourceLocation)
        return
      }
      let bytes = Array(unread.prefix(count))
      unread.removeFirst(count)
      do throws(HandshakeError) { take(try machine.received(bytes)) } catch { self.error = error }
    }
  }
}
