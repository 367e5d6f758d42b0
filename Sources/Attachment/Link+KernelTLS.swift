import AttachmentModel
import LinuxKernel
import TLS

extension Link {
  /// Why no link to that server could be the kernel's under TLS, as far as that is known before there is one.
  static func requireKernelTLS(_ server: ServerURI) throws(Failure) {
    guard server.usesTLS else {
      throw Failure(
        .connecting, "`datapath: ktls` needs TLS, and \(server) has none",
        hint: "write `nbds://`, or `datapath: direct`", advice: .giveUp)
    }
    guard case .tcp = server.address else { throw .securing(.kernel(.notTCP)) }
    if let obstacle = KernelTLS.obstacle() { throw .securing(.kernel(obstacle)) }
  }

  /// The same connection with the kernel making the records: what is sent and read at its socket is plaintext now.
  ///
  /// Only while the server has nothing to say, as after its answer to NBD_OPT_GO. Where it throws, this link is good for
  /// nothing but leaving.
  func givenToKernel() throws(Failure) -> Link {
    guard let tls else { throw .securing(.outOfStep) }
    do { try tls.handOver(toKernel: socket.number) } catch { throw .securing(error) }
    var security = security
    security?.place = .kernel
    return Link(socket: socket, security: security, server: server, peer: peer, export: export)
  }
}
