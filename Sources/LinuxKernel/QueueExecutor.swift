package import Dispatch

/// A serial Dispatch queue as an actor's executor (Dispatch has no such conformance on Linux).
///
/// It targets the global queue, so that a thousand of them share a few threads; nothing may block on it.
package final class QueueExecutor: SerialExecutor {
  package let queue: DispatchQueue

  package init(label: String) {
    queue = DispatchQueue(label: label, target: .global())
  }

  package func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    let executor = asUnownedSerialExecutor()
    queue.async { job.runSynchronously(on: executor) }
  }

  package func checkIsolated() { dispatchPrecondition(condition: .onQueue(queue)) }
}
