import AttachmentModel

/// What `nbdattach metrics` prints: the status as OpenMetrics text (the specification, version 1.0), for Prometheus and
/// whatever else reads it.
package struct Metrics {
  private let document: StatusDocument

  package init(_ document: StatusDocument) { self.document = document }

  /// With the `# EOF` and the newline that end it.
  package var text: String {
    var exposition = Exposition()
    daemon(&exposition)
    attachments(&exposition)
    requests(&exposition)
    outages(&exposition)
    buffers(&exposition)
    return exposition.text + "# EOF\n"
  }

  private func daemon(_ exposition: inout Exposition) {
    exposition.family("nbdattach_build", .info, help: "The version of nbdattachd.") {
      $0.sample(suffix: "_info", [("version", document.daemon.version)], 1)
    }
    exposition.family(
      "nbdattach_start_time_seconds", .gauge, unit: "seconds", help: "When nbdattachd started, since the epoch."
    ) { $0.sample([], document.daemon.started.seconds) }
    exposition.family(
      "nbdattach_configuration_error", .gauge, help: "1 when the configuration as last read has errors."
    ) { $0.sample([], document.daemon.configurationError == nil ? 0 : 1) }
  }

  private func attachments(_ exposition: inout Exposition) {
    exposition.family("nbdattach_attachment", .info, help: "What an attachment is.") { family in
      for attachment in document.attachments {
        let facts: [(String, String?)] = [
          ("attachment", attachment.name), ("device", attachment.device), ("server", attachment.server),
          ("export", attachment.export), ("kernel_interface", attachment.kernelInterface?.rawValue),
          ("datapath", attachment.datapath?.rawValue),
        ]
        family.sample(suffix: "_info", facts.map { ($0, $1 ?? "") }, 1)
      }
    }
    exposition.family("nbdattach_attachment_state", .gauge, help: "1 for the state that an attachment is in.") {
      family in
      for attachment in document.attachments {
        for state in AttachmentReport.State.allCases {
          let labels = [("attachment", attachment.name), ("state", state.rawValue)]
          family.sample(labels, attachment.state == state ? 1 : 0)
        }
      }
    }
    each(&exposition, "nbdattach_size_bytes", .gauge, unit: "bytes", help: "The size of the device.") {
      $0.size.map(Double.init)
    }
    each(&exposition, "nbdattach_links", .gauge, help: "Connections to the server that are up.") { Double($0.links) }
    each(&exposition, "nbdattach_links_lost", .counter, help: "Connections that were lost.") { Double($0.losses) }
    each(&exposition, "nbdattach_stalled", .gauge, help: "1 while the oldest request has waited 30 s for its answer.") {
      $0.stalledSince == nil ? 0 : 1
    }
    each(
      &exposition, "nbdattach_data_losses", .gauge,
      help: "Acknowledged writes that a server has lost, until the operator acknowledges it."
    ) { Double($0.dataLossCount) }
  }

  private static func operations(
    _ counted: StatusDocument.Statistics
  ) -> [(String, StatusDocument.Requests)] {
    [("read", counted.reads), ("write", counted.writes), ("flush", counted.flushes), ("trim", counted.trims)]
  }

  private func requests(_ exposition: inout Exposition) {
    let counts: [(String, String?, String, KeyPath<StatusDocument.Requests, Int64>)] = [
      ("nbdattach_requests", nil, "Requests of the kernel that were answered.", \.count),
      ("nbdattach_request_bytes", "bytes", "Bytes read and written, trimmed or zeroed.", \.bytes),
      ("nbdattach_request_errors", nil, "Requests that were answered with an error.", \.errors),
    ]
    for (name, unit, help, count) in counts {
      exposition.family(name, .counter, unit: unit, help: help) { family in
        for (attachment, statistics) in relayed {
          for (operation, requests) in Metrics.operations(statistics) {
            let value = Double(requests[keyPath: count])
            family.sample(suffix: "_total", [("attachment", attachment.name), ("operation", operation)], value)
          }
        }
      }
    }
    exposition.family(
      "nbdattach_request_duration_seconds", .histogram, unit: "seconds",
      help: "From a request of the kernel to its answer, outages included."
    ) { family in
      for (attachment, statistics) in relayed {
        var sum: Int64 = 0
        for (power, count) in statistics.latency.enumerated() {
          sum += count
          let isLast = power + 1 == statistics.latency.count
          let bound = isLast ? "+Inf" : Exposition.number(IOStatistics.bound(ofBucket: power))
          family.sample(suffix: "_bucket", [("attachment", attachment.name), ("le", bound)], Double(sum))
        }
      }
    }
  }

  private func outages(_ exposition: inout Exposition) {
    counter(&exposition, "nbdattach_requests_resent", help: "Requests sent again because their connection was lost.") {
      Double($0.resent)
    }
    counter(
      &exposition, "nbdattach_writes_replayed", help: "Acknowledged, unflushed writes sent again after an outage."
    ) {
      Double($0.replayed)
    }
    counter(&exposition, "nbdattach_replayed_bytes", unit: "bytes", help: "Their bytes.") { Double($0.replayedBytes) }
    counter(&exposition, "nbdattach_held_seconds", unit: "seconds", help: "How long no server could be reached.") {
      Double($0.heldMilliseconds) / 1e3
    }
    gauge(&exposition, "nbdattach_longest_request_seconds", unit: "seconds", help: "The longest that a request took.") {
      Double($0.longestMicroseconds) / 1e6
    }
  }

  private func buffers(_ exposition: inout Exposition) {
    counter(&exposition, "nbdattach_requests_split", help: "Requests that were larger than the server takes.") {
      Double($0.split)
    }
    gauge(&exposition, "nbdattach_queue_depth", help: "Requests that wait for their answer.") { Double($0.queueDepth) }
    gauge(
      &exposition, "nbdattach_unflushed_bytes", unit: "bytes",
      help: "Acknowledged and not yet flushed, kept to be sent again."
    ) { Double($0.unflushed) }
    gauge(&exposition, "nbdattach_relay_memory_bytes", unit: "bytes", help: "Buffers of the relay.") {
      Double($0.memory)
    }
  }

  // MARK: One number of each attachment

  private var relayed: [(StatusDocument.Attachment, StatusDocument.Statistics)] {
    document.attachments.compactMap { attachment in attachment.statistics.map { (attachment, $0) } }
  }

  private func each(
    _ exposition: inout Exposition, _ name: String, _ type: Exposition.FamilyType, unit: String? = nil, help: String,
    _ value: (StatusDocument.Attachment) -> Double?
  ) {
    exposition.family(name, type, unit: unit, help: help) { family in
      for attachment in document.attachments {
        guard let value = value(attachment) else { continue }
        family.sample(suffix: type == .counter ? "_total" : "", [("attachment", attachment.name)], value)
      }
    }
  }

  private func counter(
    _ exposition: inout Exposition, _ name: String, unit: String? = nil, help: String,
    _ value: (StatusDocument.Statistics) -> Double
  ) {
    each(&exposition, name, .counter, unit: unit, help: help) { $0.statistics.map(value) }
  }

  private func gauge(
    _ exposition: inout Exposition, _ name: String, unit: String? = nil, help: String,
    _ value: (StatusDocument.Statistics) -> Double
  ) {
    each(&exposition, name, .gauge, unit: unit, help: help) { $0.statistics.map(value) }
  }
}
