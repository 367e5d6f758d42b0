import Dispatch

/// A serial Dispatch queue as an actor's executor; Dispatch on Linux has no such conformance of its own.
final class QueueExecutor: SerialExecutor {
  let queue: DispatchQueue

  init(label: String) {
    // On a shared root queue: a serial queue without one may get a thread of its own.
    queue = DispatchQueue(label: label, target: .global())
  }

  func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    let executor = asUnownedSerialExecutor()
    queue.async { job.runSynchronously(on: executor) }
  }

  func checkIsolated() { dispatchPrecondition(condition: .onQueue(queue)) }
}
