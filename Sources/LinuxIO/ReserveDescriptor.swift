import CLinux

/// A number kept free for the moment when the process has no other.
///
/// A listener whose connections cannot be accepted for want of numbers stays readable, and a loop that watches it would
/// spin. The reserve is given up to take one such connection, which is closed at once: so the client learns that it is
/// not served, and the listener's queue empties.
///
/// In the moment between the two, another thread may take the number for a connection, and keep it as long as that
/// lasts. So the last numbers of the process are for no connection, as `isLast` says of one that was accepted: the
/// kernel gives the lowest number that is free.
package struct ReserveDescriptor: ~Copyable {
    /// What came of a connection that could not be served.
    package enum Outcome: Equatable, Sendable {
        /// One was taken and closed. There may be more.
        case refused
        /// None waits any more.
        case noneWaiting
        /// There is no number even so, because other threads took it: the listener must be left alone for a while.
        case exhausted
    }

    /// The number held, or -1 while there is none to be had.
    private var raw: Int32
    private let firstOfLast: Int

    /// - Parameter limit: the count of numbers that the process may have.
    package init(limit: Int = .max) throws(SystemCallError) {
        firstOfLast = limit &- min(Self.lastCount, max(limit, 0) / 8)
        raw = try checked(turnpike_open_null(), "open")
    }

    private static let lastCount = 16

    /// Whether a connection that was given this number is to be closed, as if there had been none for it.
    package func isLast(_ number: Int32) -> Bool { Int(number) >= firstOfLast }

    /// Whether the reserve is there.
    package var isHeld: Bool { raw >= 0 }

    /// Closes a connection that waits at `listener`. To be called when `accept` gave an errno of
    /// `Errno.isDescriptorShortage`, and again for as long as it says `refused`.
    package mutating func refuse(at listener: Int32) -> Outcome {
        if !isHeld { raw = turnpike_open_null() }
        guard isHeld else { return .exhausted }
        _ = turnpike_close(raw)
        var peer = SocketAddressStorage()
        let accepted = turnpike_tcp_accept(listener, &peer)
        // By a reset, for an orderly end would leave the connection in TIME_WAIT, which has a price too.
        if accepted >= 0 { _ = turnpike_tcp_abort(accepted) }
        raw = turnpike_open_null()
        if accepted >= 0 { return .refused }
        if accepted == 0 &- EAGAIN { return .noneWaiting }
        return Errno.isDescriptorShortage(0 &- accepted) ? .exhausted : .refused
    }

    deinit {
        if raw >= 0 { _ = turnpike_close(raw) }
    }
}
