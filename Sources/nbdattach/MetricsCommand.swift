import ArgumentParser
import Control

struct MetricsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "metrics",
    abstract: "Print all counters as OpenMetrics text, for Prometheus.",
    discussion: """
      For a collector that runs programs, or to be written to a file that one reads. Asks the running daemon: as root, or \
      as a member of the group nbdattach.

      Exit status: 0 printed, 2 the daemon could not be asked.
      """)

  @OptionGroup var daemon: DaemonQuestion

  func run() throws {
    let document = try daemon.ask { client throws(ControlError) in try client.status() }
    print(Metrics(document).text, terminator: "")
  }
}
