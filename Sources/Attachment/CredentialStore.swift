import AttachmentModel
import LinuxKernel
import Synchronization
import TLS

/// Credentials in use: loaded once for all that share them, and again when a file has changed, so that a renewed
/// certificate is used for the next link.
///
/// Concurrency model: `loaded` is shared by the callers and the loading threads, under its mutex; completions are
/// called on a thread of the pool, outside the mutex.
final class CredentialStore: Sendable {
  static let shared = CredentialStore()

  /// Reading files blocks, be it only for a moment.
  private let pool = BlockingThreadPool(name: "credentials", threads: 4)
  private let loaded = Mutex<[TLSRequirements.Credentials: TLSCredentials]>([:])
  /// Above this many, all are forgotten: only what changes all the time gets there.
  private static let maximumCount = 1024

  /// `completion` is called exactly once.
  func load(
    _ source: TLSRequirements.Credentials, completion: @escaping @Sendable (Result<TLSCredentials, TLSError>) -> Void
  ) {
    pool.submit {
      completion(Result { () throws(TLSError) in try self.load(source) })
    } refusal: { error in
      completion(.failure(.system(error.call, error.code)))
    }
  }

  private func load(_ source: TLSRequirements.Credentials) throws(TLSError) -> TLSCredentials {
    let known = loaded.withLock { $0[source] }
    if let known, known.isCurrent { return known }
    let credentials: TLSCredentials
    do throws(TLSError) {
      credentials = try TLSCredentials.load(source)
    } catch {
      loaded.withLock { $0[source] = nil }
      throw error
    }
    loaded.withLock { loaded in
      if loaded.count >= Self.maximumCount { loaded = [:] }
      loaded[source] = credentials
    }
    return credentials
  }
}
