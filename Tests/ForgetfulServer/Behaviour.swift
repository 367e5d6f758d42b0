package import NBDProtocol

/// How the server behaves from now on; for all connections.
package struct Behaviour: Sendable {
  /// What the server says of its export; a connection keeps what it was told.
  package struct Offer: Sendable {
    /// In bytes; `nil`: the image's own.
    package var size: UInt64?
    package var flags: TransmissionFlags = [
      .hasFlags, .sendFlush, .sendFUA, .sendTrim, .sendWriteZeroes, .canMultiConn,
    ]
    /// `nil`: the server does not say.
    package var blockSizes: BlockSizes?

    package init() {}
  }

  /// What happens to the held requests of a connection whose client has closed its direction.
  package enum HalfClose: Sendable {
    /// They are carried out and answered, then the server closes: a good server, whose close is a fence.
    case finishesBeforeClose
    /// The connection stays open until `finishHeld` has released them.
    case waits
    /// The server closes at once, and they are carried out when they are released, however late.
    case closesFirst
  }

  package var offer = Offer()
  /// Decides each request as it arrives. Called with the server locked, so it must not call the server.
  package var treat: @Sendable (Received) -> Treatment = { _ in .serve }
  package var halfClose = HalfClose.finishesBeforeClose
  /// Requests are carried out and answered in an order of chance.
  package var reorders = false
  /// The chance (0…1), after each request, that one block of chance is made durable without a flush.
  package var earlyWriteBack = 0.0

  package init() {}

  /// Refuses requests of these commands (all, for none named) that touch the range.
  package mutating func refuse(_ commands: CommandCode..., in range: Range<UInt64>, with error: ErrorCode) {
    let before = treat
    treat = { received in
      let request = received.request
      let end = request.offset &+ UInt64(request.length)
      let touches = request.offset < range.upperBound && end > range.lowerBound
      return touches && (commands.isEmpty || commands.contains(request.command)) ? .refuse(error) : before(received)
    }
  }

  /// Answers everything with ESHUTDOWN, as a server that is being stopped.
  package mutating func refuseEverything(with error: ErrorCode = .shutdown) {
    treat = { _ in .refuse(error) }
  }
}

/// One request as it came.
package struct Received: Sendable, Equatable {
  /// Counted over all connections, from 0.
  package let number: Int
  /// Which connection, in the order of their beginning, from 0.
  package let connection: Int
  package let request: Request
}

/// What becomes of one request.
package enum Treatment: Sendable, Equatable {
  case serve
  case refuse(ErrorCode)
  /// Neither carried out nor answered until `finishHeld` releases it, which may be after its connection has gone.
  case hold
  /// Carried out at once, answered when `finishHeld` releases it.
  case answerLate
  /// Carried out; the connection is closed after that many bytes of the reply.
  case cut(after: Int)
  /// Carried out; the reply has another cookie.
  case wrongCookie
  /// Carried out; the reply begins with another number.
  case wrongMagic
  case crash(CrashPoint)

  /// When, in the life of a request, the server crashes.
  package enum CrashPoint: Sendable, CaseIterable {
    case beforeCarriedOut
    case beforeAnswer
    /// The answer may still arrive.
    case afterAnswer
  }
}

/// What a test waits for and asserts on; all counted since the server was made.
package struct Facts: Sendable, Equatable {
  /// Connections that reached transmission.
  package var connected = 0
  /// Of those, the ones that are no longer open.
  package var closed = 0
  /// Requests that arrived whole.
  package var received = 0
  package var receivedByCommand: [CommandCode: Int] = [:]
  /// Replies that were given to the socket, or kept for it.
  package var answered = 0
  /// Requests that are held now.
  package var held = 0
  /// Connections whose client has closed its direction, and the server not yet its own.
  package var halfClosed = 0
  package var crashes = 0
  /// How many connections were ended by an orderly NBD_CMD_DISC.
  package var disconnected = 0
  /// What clients did that the protocol, or this server's offer, forbids; in words.
  package var violations: [String] = []
}
