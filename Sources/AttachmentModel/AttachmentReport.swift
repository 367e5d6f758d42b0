/// Everything that is reported of one attachment at one moment: the journal, STATUS=, the control socket and
/// `nbdattach status` are renderings of it.
package struct AttachmentReport: Equatable, Sendable {
  package enum State: String, CaseIterable, Sendable, Codable {
    case stopped
    case connecting
    case attached
    case degraded
    case reconnecting
    case waiting
    case detaching
    case failed
  }

  package var name: String
  package var state: State
  /// When this state began, in seconds since the epoch.
  package var since: Double
  /// The step of an attempt under way, such as `negotiating with nbd://storage1/data`.
  package var activity: String?
  /// `/dev/nbd0`; `nil` while none is bound or chosen.
  package var device: String?
  /// The server in use or tried last, as a URI.
  package var server: String?
  package var export: String?
  /// In bytes.
  package var size: UInt64?
  package var isReadOnly: Bool?
  /// Logical block size in bytes.
  package var blockSize: Int?
  package var kernelInterface: KernelInterface?
  package var datapath: Datapath?
  /// Of the newest links; `nil`: they are in clear, or it is not known.
  package var security: LinkSecurity?
  /// Links up now.
  package var links: Int = 0
  /// The last failure that has not been overcome by a success.
  package var failure: Failure?
  /// When the next try is due, in seconds since the epoch, in `waiting` and `failed`.
  package var nextTry: Double?
  /// Tries since the last success.
  package var attempts: Int = 0
  /// How often a link was lost since the worker started.
  package var losses: Int = 0
  /// Why links that were made for what was declared before are still up, where new ones could not be had.
  package var renewalFailure: Failure?

  /// Since when the oldest request waits for its answer, in seconds since the epoch, where that is long.
  package var stalledSince: Double?
  /// Writes that a server has lost, until the operator says that he knows: the first of them, and how many there are.
  package var dataLosses: [DataLoss] = []
  package var dataLossCount = 0
  /// Only where it was asked for.
  package var statistics: IOStatistics?

  package init(name: String, state: State, since: Double) {
    self.name = name
    self.state = state
    self.since = since
  }
}
