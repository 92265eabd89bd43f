import CLinux

/// Zeroed address space whose pages become memory when they are first touched: for tables that are sized for the most
/// there can be, and hold what there is.
package struct LazyMemory: ~Copyable {
    package let base: UnsafeMutableRawPointer
    private let byteCount: Int

    /// - Parameter byteCount: at least 1.
    package init(byteCount: Int) throws(SystemCallError) {
        guard let base = turnpike_map(max(byteCount, 1)) else { throw SystemCallError(number: ENOMEM, call: "mmap") }
        self.base = base
        self.byteCount = max(byteCount, 1)
    }

    deinit { turnpike_unmap(base, byteCount) }
}
