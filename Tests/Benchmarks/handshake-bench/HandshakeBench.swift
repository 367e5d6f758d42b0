import ArgumentParser
import Attachment
import AttachmentModel
import Glibc
import LinuxKernel

/// Makes links as the daemon's workers do, from name look-up to the end of negotiation, and measures what that takes.
@main
struct HandshakeBench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "handshake-bench",
    abstract: "Makes links to a server, one after the other, then all at once.",
    discussion: "Prints a line of JSON: times in microseconds, those of processors for each link.")

  @Option(help: "Links, one after the other, of which the median counts.")
  var single = 50

  @Option(help: "Links at once.")
  var crowd = 1000

  @Option(help: "The server's process, whose processor time is measured too.")
  var watch: pid_t

  @Argument(help: "Such as nbds://localhost:10809/?tls-certificates=DIRECTORY.")
  var uri: String

  func run() async throws {
    let server: ServerURI
    do { server = try ServerURI(parsing: uri) } catch { throw ValidationError("\(uri): \(error.message)") }
    // Credentials are loaded once for all.
    _ = try await Worker().link(server)

    var times: [Double] = []
    let before = Usage(watch)
    for _ in 0..<single {
      let start = now()
      let link = try await Worker().link(server)
      times.append(now() - start)
      withExtendedLifetime(link) {}
    }
    let one = Usage(watch) - before

    let (start, idle) = (now(), Usage(watch))
    let links = await withTaskGroup(of: Link?.self) { group in
      for _ in 0..<crowd { group.addTask { try? await Worker().link(server) } }
      var links: [Link] = []
      for await case .some(let link) in group { links.append(link) }
      return links
    }
    let (taken, all) = (now() - start, Usage(watch) - idle)

    times.sort()
    let made = Double(max(1, links.count))
    print(
      """
      {"single": \(whole(times[times.count / 2])), "singleProcessor": \(whole(one.own / Double(single))), \
      "crowd": \(crowd), "failed": \(crowd - links.count), "crowdTime": \(whole(taken)), \
      "crowdProcessor": \(whole(all.own / made)), "serverProcessor": \(whole(all.others / made)), \
      "bytes": \(whole(all.resident / made))}
      """)
    withExtendedLifetime(links) {}
  }

  private func whole(_ number: Double) -> Int { Int(number.rounded()) }
}

/// What a worker is to its connector.
private actor Worker {
  private nonisolated let executor = QueueExecutor(label: "worker")
  nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

  func link(_ server: ServerURI) async throws(Failure) -> Link {
    try await Connector(server: server, scope: AttemptScope(queue: executor.queue)).link(timeout: .seconds(120))
  }
}

/// What was used up so far: microseconds, and bytes.
private struct Usage {
  var own: Double
  var others: Double
  var resident: Double

  init(_ other: pid_t) {
    var usage = rusage()
    getrusage(RUSAGE_SELF.rawValue, &usage)
    own = [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) * 1e6 + Double($1.tv_usec) }
    // utime and stime, after the name in parentheses (proc(5)).
    let words = text("/proc/\(other)/stat").split(separator: ")").last?.split(separator: " ").map { Double($0) } ?? []
    let ticks = words.count > 12 ? (words[11] ?? 0) + (words[12] ?? 0) : 0
    others = ticks * 1e6 / Double(sysconf(Int32(_SC_CLK_TCK)))
    let pages = text("/proc/self/statm").split(separator: " ").dropFirst().first.flatMap { Double($0) } ?? 0
    resident = pages * Double(getpagesize())
  }

  static func - (after: Usage, before: Usage) -> Usage {
    var difference = after
    difference.own -= before.own
    difference.others -= before.others
    difference.resident -= before.resident
    return difference
  }
}

/// Microseconds.
private func now() -> Double {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return Double(time.tv_sec) * 1e6 + Double(time.tv_nsec) / 1e3
}

private func text(_ path: String) -> String {
  guard let file = fopen(path, "r") else { return "" }
  defer { fclose(file) }
  var bytes = [UInt8](repeating: 0, count: 4096)
  let count = fread(&bytes, 1, bytes.count, file)
  return String(decoding: bytes.prefix(count), as: UTF8.self)
}
