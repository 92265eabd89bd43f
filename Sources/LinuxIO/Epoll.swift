import CLinux

/// Readiness to wait for, and that which was found.
@usableFromInline
package struct EpollEvents: OptionSet, Sendable, BitwiseCopyable {
    @usableFromInline package let rawValue: UInt32

    @inlinable
    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    @inlinable package static var readable: EpollEvents { EpollEvents(rawValue: 0x001) }
    @inlinable package static var writable: EpollEvents { EpollEvents(rawValue: 0x004) }
    /// Reported whether asked for or not.
    @inlinable package static var error: EpollEvents { EpollEvents(rawValue: 0x008) }
    /// Reported whether asked for or not.
    @inlinable package static var hangUp: EpollEvents { EpollEvents(rawValue: 0x010) }
    /// The peer of a stream will send no more.
    @inlinable package static var peerClosed: EpollEvents { EpollEvents(rawValue: 0x2000) }
    /// Report a change once, instead of a state for as long as it lasts.
    @inlinable package static var edgeTriggered: EpollEvents { EpollEvents(rawValue: 1 << 31) }

    /// In place of the protocol's own, which is a call through a witness table for every event.
    @inlinable
    package func contains(_ other: EpollEvents) -> Bool {
        rawValue & other.rawValue == other.rawValue
    }
}

/// Waits for many descriptors at once. Descriptors are watched, not owned.
package struct Epoll: ~Copyable, Sendable {
    private let descriptor: FileDescriptor

    package init() throws(SystemCallError) {
        descriptor = FileDescriptor(owning: try checked(turnpike_epoll_create(), "epoll_create1"))
    }

    /// - Parameter data: Comes back with every event of this descriptor.
    package func add(_ fd: Int32, _ events: EpollEvents, data: UInt64) throws(SystemCallError) {
        try checked(turnpike_epoll_add(descriptor.raw, fd, events.rawValue, data), "epoll_ctl")
    }

    package func modify(_ fd: Int32, _ events: EpollEvents, data: UInt64) throws(SystemCallError) {
        try checked(turnpike_epoll_modify(descriptor.raw, fd, events.rawValue, data), "epoll_ctl")
    }

    package func remove(_ fd: Int32) throws(SystemCallError) {
        try checked(turnpike_epoll_remove(descriptor.raw, fd), "epoll_ctl")
    }

    /// Waits until something is ready or the time has passed; signals do not end the wait.
    ///
    /// - Parameter timeoutMilliseconds: 0 looks without waiting, a negative number waits for ever.
    /// - Returns: How many events `buffer` holds now, 0 after a time-out, or a negative errno.
    package func wait(into buffer: borrowing EventBuffer, timeoutMilliseconds: Int32) -> Int {
        Int(turnpike_epoll_wait(descriptor.raw, buffer.events, buffer.capacity, timeoutMilliseconds))
    }
}

/// Room for the events of one wait.
@usableFromInline
package struct EventBuffer: ~Copyable {
    @usableFromInline let events: UnsafeMutablePointer<epoll_event>
    package let capacity: Int32

    /// - Parameter capacity: Events taken in one wait; the rest wait their turn in the kernel. At least 1.
    package init(capacity: Int) {
        let size = min(max(capacity, 1), 65_536)
        self.capacity = Int32(size)
        events = .allocate(capacity: size)
        events.initialize(repeating: epoll_event(), count: size)
    }

    /// The event at `index`, which must be less than what `wait` returned. Inlined: runs once for each ready socket.
    @inlinable
    package subscript(index: Int) -> (events: EpollEvents, data: UInt64) {
        let event = events + index
        return (EpollEvents(rawValue: turnpike_event_flags(event)), turnpike_event_data(event))
    }

    deinit {
        events.deallocate()
    }
}
