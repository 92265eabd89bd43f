import CLinux

/// The one owner of an open descriptor; closes it at the end of its life.
package struct FileDescriptor: ~Copyable, Sendable {
    /// The number, valid while this value lives.
    package let raw: Int32

    /// Takes ownership of `raw`.
    package init(owning raw: Int32) {
        self.raw = raw
    }

    /// Gives ownership away: the caller must see to it that the descriptor is closed.
    package consuming func release() -> Int32 {
        let raw = raw
        discard self
        return raw
    }

    deinit {
        // Nothing sensible can be done about a failing close: the number is free in either case.
        _ = turnpike_close(raw)
    }
}
