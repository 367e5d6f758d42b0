import Glibc

/// Seconds since the epoch, for what people read.
package func wallClockNow() -> Double { seconds(CLOCK_REALTIME) }

/// Seconds on the clock that only goes forward (CLOCK_MONOTONIC), for what is measured.
package func monotonicNow() -> Double { seconds(CLOCK_MONOTONIC) }

private func seconds(_ clock: clockid_t) -> Double {
  var time = timespec()
  clock_gettime(clock, &time)
  return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

extension Duration {
  /// In seconds.
  package var inSeconds: Double {
    Double(components.seconds) + Double(components.attoseconds) / 1e18
  }
}

/// CPUs that are on line, at least 1.
package func processorCount() -> Int { max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))) }

/// In bytes; the largest logical block size of a block device before Linux 6.15.
package func systemPageSize() -> Int { Int(sysconf(Int32(_SC_PAGESIZE))) }
