import Testing

@testable import Relay

@Suite("The budget of all relays")
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
}
