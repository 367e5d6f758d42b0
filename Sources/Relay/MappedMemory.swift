import Glibc

/// Anonymous memory straight from the kernel, so that what is not touched costs nothing and what is given back is gone.
enum MappedMemory {
  /// At least `count` zeroed bytes, a multiple of the page size; `nil` when the kernel has none.
  static func map(_ count: Int) -> UnsafeMutableRawBufferPointer? {
    let size = (count + 4095) & ~4095
    let address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | Int32(MAP_ANONYMOUS), -1, 0)
    guard let address, address != MAP_FAILED else { return nil }
    // A page of 2 MiB would make an idle device expensive, and making one may stall under memory pressure.
    _ = madvise(address, size, Int32(MADV_NOHUGEPAGE))
    return UnsafeMutableRawBufferPointer(start: address, count: size)
  }

  static func unmap(_ memory: UnsafeMutableRawBufferPointer) {
    _ = munmap(memory.baseAddress, memory.count)
  }
}
