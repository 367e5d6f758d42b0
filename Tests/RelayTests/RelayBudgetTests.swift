import ForgetfulServer
import NBDProtocol
import RelayModel
import Testing

@testable import Relay

@Suite("The budget of all relays", .timeLimit(.minutes(2)))
struct RelayBudgetTests {
  @Test("no more is given than there is, and what came back is given again")
  func bounded() {
    let budget = RelayBudget(bytes: 10)
    #expect(budget.take(6))
    #expect(!budget.take(5))
    #expect(budget.inUse == 6)
    budget.giveBack(6)
    #expect(budget.take(10))
  }

  @Test("a relay whose limit becomes smaller gives back what it no longer may have", arguments: [0, 3 << 19])
  func smallerLimit(limit: Int) async throws {
    let budget = RelayBudget(bytes: 64 << 20)
    let lab = try await RelayLab.attached(size: 4 << 20, RelaySettings(unflushedLimit: 16 << 20, budget: budget))
    // No FLUSH of the relay's own empties the log.
    lab.server.behave { $0.treat = { $0.request.command == .flush ? .answerLate : .serve } }
    #expect(try lab.kernel.ask(.write, at: 0, pattern(4 << 20, 1)).error == nil)
    // A device's first MiB is its own.
    let borrowable = max(limit - (1 << 20), 0)
    while budget.inUse <= borrowable { await Task.yield() }
    lab.relay.change(RelaySettings(unflushedLimit: limit, budget: budget))
    while budget.inUse > borrowable { await Task.yield() }
    lab.server.finishHeld()
    #expect(try lab.kernel.ask(.read, at: 0, length: 512).error == nil)
    await lab.end()
    #expect(budget.inUse == 0)
  }
}
