import CLinux

/// Wakes a thread that waits in `Epoll`. Any number of signals before the reader looks are one signal.
package struct EventFD: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    package init() throws(SystemCallError) {
        descriptor = FileDescriptor(owning: try checked(turnpike_eventfd_create(), "eventfd"))
    }

    /// For `Epoll.add`, and for `signal(raw:)` from other threads while this value lives.
    package var raw: Int32 { descriptor.raw }

    package func signal() throws(SystemCallError) {
        try EventFD.signal(raw: descriptor.raw)
    }

    /// Signals through the number alone, for threads that cannot hold the owner.
    package static func signal(raw: Int32) throws(SystemCallError) {
        try checked(turnpike_eventfd_signal(raw), "write")
    }

    /// Takes all signals; false when there was none.
    @discardableResult
    package func drain() throws(SystemCallError) -> Bool {
        try checked(turnpike_eventfd_drain(descriptor.raw), "read") == 1
    }
}
