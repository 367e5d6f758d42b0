/// A connected socket (or another open file) that several may use; closed when the last of them has gone.
package final class OpenFile: Sendable {
  private let descriptor: FileDescriptor
  package var number: Int32 { descriptor.number }

  package init(_ descriptor: consuming FileDescriptor) { self.descriptor = descriptor }

  /// A duplicate of the open file `number`; `nil` when the process has no descriptor left.
  package static func duplicating(_ number: Int32) -> OpenFile? {
    guard let copy = try? FileDescriptor.duplicating(number) else { return nil }
    return OpenFile(copy)
  }
}
