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
    while budget.inUse <= borrowable { try await Task.sleep(for: .milliseconds(1)) }
    lab.relay.change(RelaySettings(unflushedLimit: limit, budget: budget))
    while budget.inUse > borrowable { try await Task.sleep(for: .milliseconds(1)) }
    lab.server.finishHeld()
    #expect(try lab.kernel.ask(.read, at: 0, length: 512).error == nil)
    await lab.end()
    #expect(budget.inUse == 0)
  }

  @Test("a relay borrows for its unflushed writes, and gives all back once they are flushed", .timeLimit(.minutes(2)))
  func borrowed() async throws {
    let budget = RelayBudget(bytes: 64 << 20)
    let lab = try await RelayLab.attached(
      size: 8 << 20, RelaySettings(unflushedLimit: 64 << 20, budget: budget))
    for index in 0..<48 {
      #expect(try lab.kernel.ask(.write, at: UInt64(index) << 16, pattern(1 << 16, index)).error == nil)
    }
    // 3 MiB are more than a relay may keep of its own.
    #expect(budget.inUse > 0)
    #expect(try lab.kernel.ask(.flush).error == nil)
    // A part is given back each second, and in the end all.
    let deadline = ContinuousClock.now + .seconds(30)
    while budget.inUse > 0, ContinuousClock.now < deadline { try await Task.sleep(for: .milliseconds(50)) }
    #expect(budget.inUse == 0)
    await lab.end()
    #expect(budget.inUse == 0)
  }

  @Test("a relay that ends gives back what it has borrowed")
  func borrowedAtTheEnd() async throws {
    let budget = RelayBudget(bytes: 64 << 20)
    let lab = try await RelayLab.attached(
      size: 8 << 20, RelaySettings(unflushedLimit: 64 << 20, budget: budget))
    for index in 0..<32 {
      #expect(try lab.kernel.ask(.write, at: UInt64(index) << 16, pattern(1 << 16, index)).error == nil)
    }
    #expect(budget.inUse > 0)
    await lab.end()
    #expect(budget.inUse == 0)
  }
}
