import LinuxKernel

/// What a test waited for did not come.
struct InVain: Error, CustomStringConvertible {
  let description: String
}

/// Returns when the condition holds; throws when it does not within half a minute, and says what was there instead.
func eventually(
  _ what: String, else instead: @autoclosure () -> String = "", _ condition: () async throws -> Bool
) async throws {
  let deadline = monotonicNow() + 30
  while try await !condition() {
    guard monotonicNow() < deadline else { throw InVain(description: "waited in vain: \(what)\n\(instead())") }
    try await Task.sleep(for: .milliseconds(5))
  }
}
