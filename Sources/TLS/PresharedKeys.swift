/// The key of one identity, found in a file of lines `IDENTITY:KEY` with the key in hexadecimal digits, as psktool
/// writes them and nbdkit, QEMU and libnbd read them.
struct PresharedKey {
  let identity: String
  /// In hexadecimal digits.
  let key: Secret

  /// `identity` may be left out where the file has one key only. Empty lines, and those that begin with `#`, don't
  /// count.
  static func find(
    _ identity: String?, in content: Secret, path: String
  ) throws(TLSError) -> PresharedKey {
    switch content.withBytes({ search(identity, in: $0) }) {
    case .success(let found): return found
    case .failure(let problem): throw .file(.presharedKeys, path: path, problem.value)
    }
  }

  private struct SearchError: Error {
    let value: TLSFile.Problem
  }

  private static func search(_ identity: String?, in text: UnsafeRawBufferPointer) -> Result<PresharedKey, SearchError>
  {
    var found: PresharedKey?
    var count = 0
    var lineNumber = 0
    for piece in text.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      lineNumber += 1
      let line = piece.last == UInt8(ascii: "\r") ? piece.dropLast() : piece
      if line.isEmpty || line.first == UInt8(ascii: "#") { continue }
      guard let colon = line.lastIndex(of: UInt8(ascii: ":")), colon > line.startIndex,
        let name = String(validating: line[..<colon], as: UTF8.self), isKey(line[(colon + 1)...])
      else { return .failure(SearchError(value: .malformedLine(lineNumber))) }
      count += 1
      if found == nil, identity == nil || identity == name {
        found = PresharedKey(identity: name, key: Secret(UnsafeRawBufferPointer(rebasing: line[(colon + 1)...])))
      }
    }
    if count == 0 { return .failure(SearchError(value: .unusable("it is empty"))) }
    if identity == nil, count > 1 { return .failure(SearchError(value: .ambiguousIdentity(count))) }
    guard let found else { return .failure(SearchError(value: .noIdentity(identity ?? ""))) }
    return .success(found)
  }

  private static func isKey(_ digits: Slice<UnsafeRawBufferPointer>) -> Bool {
    !digits.isEmpty && digits.count % 2 == 0
      && digits.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
          UInt8(ascii: "A")...UInt8(ascii: "F"):
          true
        default: false
        }
      }
  }
}
