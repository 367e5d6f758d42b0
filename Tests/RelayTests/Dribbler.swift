import Glibc
import LinuxKernel

/// Copies between two sockets, one byte at a time in each direction, on a thread of its own.
final class Dribbler: Sendable {
  private let first: OpenFile
  private let second: OpenFile

  init(from first: OpenFile, to second: OpenFile) throws {
    self.first = first
    self.second = second
    try BlockingThread.start("dribbler") {
      var polled = [first, second].map { pollfd(fd: $0.number, events: Int16(POLLIN), revents: 0) }
      while poll(&polled, 2, -1) >= 0 {
        for (source, target) in [(0, second), (1, first)] where polled[source].revents != 0 {
          var byte: UInt8 = 0
          let count = recv(polled[source].fd, &byte, 1, 0)
          guard count == 1 else { return Socket.shutDown(target.number) }
          while send(target.number, &byte, 1, Int32(MSG_NOSIGNAL)) < 0, errno == EAGAIN { sched_yield() }
        }
      }
    }
  }

  func stop() {
    Socket.shutDown(first.number)
    Socket.shutDown(second.number)
  }
}
