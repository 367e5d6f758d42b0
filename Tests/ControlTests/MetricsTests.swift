import AttachmentModel
import Testing

@testable import Control

@Suite("the metrics")
struct MetricsTests {
  private func metrics(_ attachments: [AttachmentReport]) -> String {
    Metrics(StatusDocument(snapshot(attachments))).text
  }

  @Test("are OpenMetrics: every sample belongs to the family before it, by its name and type")
  func grammar() throws {
    var text = metrics([relayedReport(), attachedReport("b")])
    #expect(text.hasSuffix("\n# EOF\n"))
    text.removeLast("# EOF\n".count)
    var families: Set<String> = []
    var (name, type) = ("", "")
    for line in text.split(separator: "\n", omittingEmptySubsequences: false).dropLast() {
      if let match = line.wholeMatch(of: /# TYPE ([a-z_]+) (gauge|counter|histogram|info)/) {
        (name, type) = (String(match.output.1), String(match.output.2))
        #expect(families.insert(name).inserted, "\(name) stands twice")
      } else if let match = line.wholeMatch(of: /# UNIT ([a-z_]+) (seconds|bytes)/) {
        #expect(match.output.1 == name && name.hasSuffix("_\(match.output.2)"))
      } else if let match = line.wholeMatch(of: /# HELP ([a-z_]+) [^\n"]+/) {
        #expect(match.output.1 == name)
      } else {
        let label = #/[a-z_]+="(?:[^"\\\n]|\\["n\\])*"/#
        let sample = #/([a-z_]+)(?:\{(.*)\})? (-?[0-9.e+-]+)/#
        let match = try #require(line.wholeMatch(of: sample), "\(line)")
        let suffix = ["gauge": "", "counter": "_total", "histogram": "_bucket", "info": "_info"][type]
        #expect(match.output.1 == name + (suffix ?? "?"), "\(line)")
        var rest = (match.output.2 ?? "")[...]
        while !rest.isEmpty {
          rest = rest.dropFirst(try #require(rest.prefixMatch(of: label), "\(line)").output.count)
          #expect(rest.isEmpty || rest.first == ",")
          rest = rest.dropFirst()
        }
        #expect(Double(match.output.3) != nil)
      }
    }
    #expect(families.count > 20)
  }

  @Test("say what was counted")
  func values() {
    let lines = Set(metrics([relayedReport()]).split(separator: "\n").map(String.init))
    for line in [
      #"nbdattach_build_info{version="1.2.3"} 1"#,
      #"nbdattach_attachment_state{attachment="data",state="waiting"} 1"#,
      #"nbdattach_attachment_state{attachment="data",state="attached"} 0"#,
      #"nbdattach_requests_total{attachment="data",operation="read"} 1000"#,
      #"nbdattach_request_bytes_total{attachment="data",operation="write"} 6553600"#,
      #"nbdattach_request_errors_total{attachment="data",operation="write"} 2"#,
      #"nbdattach_held_seconds_total{attachment="data"} 2.5"#,
      #"nbdattach_data_losses{attachment="data"} 1"#, #"nbdattach_stalled{attachment="data"} 1"#,
      #"nbdattach_links_lost_total{attachment="data"} 2"#,
    ] {
      #expect(lines.contains(line), "\(line)")
    }
  }

  @Test("the histogram is cumulative, and its last bucket has them all")
  func histogram() {
    let buckets = metrics([relayedReport()]).split(separator: "\n").filter { $0.contains("_bucket{") }
    #expect(buckets.first == #"nbdattach_request_duration_seconds_bucket{attachment="data",le="1e-06"} 0"#)
    #expect(buckets.last == #"nbdattach_request_duration_seconds_bucket{attachment="data",le="+Inf"} 1058"#)
    let counts = buckets.compactMap { $0.split(separator: " ").last.flatMap { Int($0) } }
    #expect(counts == counts.sorted() && counts.count == sampleStatistics().latency.count)
  }

  @Test("text of a server can't end a label or a line")
  func hostile() {
    var report = attachedReport()
    report.export = "a\"} 1\nevil 2\\"
    let lines = metrics([report]).split(separator: "\n")
    #expect(lines.contains { $0.contains(#"export="a\"} 1\nevil 2\\","#) })
    #expect(!lines.contains { $0.hasPrefix("evil") })
  }

  @Test("what has no relay has no counters of requests")
  func direct() {
    let text = metrics([attachedReport()])
    #expect(text.contains("nbdattach_links{") && !text.contains("nbdattach_requests"))
  }
}
