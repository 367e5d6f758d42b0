import AttachmentModel

extension AttachmentDraft {
  /// Reports what no single key can know: what is missing, and which keys contradict each other.
  mutating func check(at name: Place, _ files: SecretFiles, _ diagnostics: inout Diagnostics) {
    guard ownKeys["uri"] != nil else {
      diagnostics.report(
        at: name, "the attachment \(spec.name.quoted()) has no `uri`", hint: "add one, such as `uri: nbd://HOST/EXPORT`"
      )
      return
    }
    checkSockets(&diagnostics)
    checkRetry(at: name, &diagnostics)
    checkDatapath(&diagnostics)
    checkKernelInterface(&diagnostics)
    checkTLS(files, &diagnostics)
  }

  private func checkSockets(_ diagnostics: inout Diagnostics) {
    for (server, place) in zip(spec.servers, serverPlaces) {
      if case .unix(let path, false) = server.address, !path.hasPrefix("/") {
        diagnostics.report(
          at: place, "the path of the socket, \(path.quoted()), is not absolute",
          hint: "the daemon has no directory that it could start from: write `socket=/run/…`")
      }
      for key in ["tls-certificates", "tls-psk-file"] {
        if let path = server.tlsParameters[key], !path.hasPrefix("/") {
          diagnostics.report(at: place, "`\(key)` is not an absolute path")
        }
      }
    }
  }

  private func checkRetry(at name: Place, _ diagnostics: inout Diagnostics) {
    guard spec.retry.initial > spec.retry.maximum else { return }
    // Where neither key is the attachment's own, `defaults:` has been reported already.
    guard let own = ["retry.initial", "retry.maximum"].first(where: { ownKeys[$0] != nil }) else { return }
    let place = places[own] ?? name
    diagnostics.report(
      at: place,
      "the first pause between tries, \(TimeSpan.format(spec.retry.initial)), is longer than the longest, "
        + TimeSpan.format(spec.retry.maximum),
      hint: "`retry.maximum` is \(TimeSpan.format(spec.retry.maximum))"
        + (places["retry.maximum"].map { ", given at \($0.cited)" } ?? " unless it is given"))
  }

  /// Without a relay the classic interface has one link, and nothing that could wait for another.
  private func checkKernelInterface(_ diagnostics: inout Diagnostics) {
    guard spec.kernelInterface == .ioctl, spec.isDirect else { return }
    let hint = "write `kernel-interface: netlink` or `datapath: relay`, or leave one of them out"
    if let place = ownKeys["connections"], let connections = spec.connections, connections > 1 {
      diagnostics.report(
        at: place, "`kernel-interface: ioctl` has one connection only without the relay", hint: hint)
    }
    if let place = ownKeys["fail-back"], spec.failBack != nil {
      diagnostics.report(
        at: place, "`kernel-interface: ioctl` can't change its connection without the relay", hint: hint)
    }
  }

  private func checkDatapath(_ diagnostics: inout Diagnostics) {
    guard let datapath = spec.datapath, let servers = serverPlaces.first else { return }
    let place = ownKeys["datapath"] == nil ? servers : places["datapath"] ?? servers
    let usesTLS = spec.servers.contains(where: \.usesTLS)
    if datapath == .ktls, !usesTLS {
      diagnostics.report(
        at: place, "`datapath: ktls` needs TLS, and the URI has none", hint: "write `nbds://`, or `datapath: direct`")
    }
    if datapath == .ktls, usesTLS {
      for (server, place) in zip(spec.servers, serverPlaces) {
        if case .tcp = server.address { continue }
        diagnostics.report(
          at: place, "`datapath: ktls` needs TCP: the kernel has no TLS over other sockets",
          hint: "write `datapath: relay`")
      }
    }
    if datapath == .direct, usesTLS {
      diagnostics.report(
        at: place, "`datapath: direct` can't carry TLS: the kernel speaks to the server itself",
        hint: "write `ktls` or `relay`")
    }
    if spec.isDirect, let limit = ownKeys["unflushed-limit"], spec.unflushedLimit > 0 {
      diagnostics.report(
        at: limit, "only the relay keeps unflushed writes, and `datapath` is `\(datapath.rawValue)`",
        hint: "write `datapath: relay`, or leave `unflushed-limit` out")
    }
    if spec.isDirect, let fence = ownKeys["fence-timeout"], spec.fenceTimeout != nil {
      diagnostics.report(
        at: fence, "only the relay waits for what a silent server holds, and `datapath` is `\(datapath.rawValue)`",
        hint: "write `datapath: relay`, or leave `fence-timeout` out")
    }
    if spec.isDirect, spec.kernelInterface == .ioctl, spec.reconnectTimeout != .zero,
      let timeout = ownKeys["reconnect-timeout"]
    {
      diagnostics.report(
        at: timeout, "nothing holds I/O with `kernel-interface: ioctl` and `datapath: \(datapath.rawValue)`",
        hint: "write `kernel-interface: netlink` or `datapath: relay`")
    }
  }
}

extension AttachmentSpec {
  /// The kernel's socket is the server's own.
  fileprivate var isDirect: Bool { datapath == .direct || datapath == .ktls }
}
