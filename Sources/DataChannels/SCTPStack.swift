import CUsrSCTP
import Synchronization

/// The process's one SCTP stack. usrsctp keeps its associations and its timers in global variables, so every call of it
/// is made here, one at a time.
///
/// The stack has no clock for its timers: whoever has associations tells it the time with `advance`, before the calls
/// of each turn and by `nextDeadline` at the latest. All share the same time.
///
/// In virtual time that alone is not enough. Four things usrsctp reads from the system's clock (`gettimeofday`) all the
/// same: round-trip times, how long a path was idle before a heartbeat, the lifetime of a message on a channel with
/// `maxLifetime`, and whether a packet was sent long enough ago to be sent again at a timeout. The tests therefore put
/// a `gettimeofday` of their own before the system's (`VirtualClock` in Tests/TestSupport), which OpenSSL's DTLS timers
/// follow as well; with both, hours pass in seconds and every run is the same.
package final class SCTPStack: Sendable {
    package static let shared = SCTPStack()

    let packets = PacketTable()
    private let state: Mutex<State>

    struct State {
        var associations = 0
        /// Numbers up to this are registered with usrsctp.
        var registered = 0
        /// Associations with timers that cannot wait: something is not acknowledged, or begins or ends.
        var unsettled = 0
        /// As `advance` was told last.
        var now: UInt64?
        /// When an association was last given something to do.
        var lastActivity: UInt64?
        /// What is read is put here first.
        let scratch: UnsafeMutableRawBufferPointer
    }

    private init() {
        // Never freed, as the stack is not.
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: DataChannelLimits.readBytes, alignment: 16)
        state = Mutex(State(scratch: scratch))
        turnpike_sctp_start { address, packet, length, _, _ in
            turnpike_sctp_seal(packet, length)
            SCTPStack.shared.packets.append(
                UnsafeRawBufferPointer(start: packet, count: length),
                to: Int(bitPattern: address)
            )
            return 0
        }
    }

    /// Lets the timers of all associations see that time passed, and calls the `wake` of each that has something to do.
    ///
    /// Several threads may tell the time by one clock: a time before the last one is that of a thread that was held up,
    /// and counts as the last one.
    /// - Parameter nanoseconds: a monotonic time. Less than a millisecond is kept for the next call.
    package func advance(to nanoseconds: some BinaryInteger) {
        let nanoseconds = UInt64(clamping: nanoseconds)
        state.withLock { state in
            guard let last = state.now else {
                state.now = nanoseconds
                return
            }
            let milliseconds = UInt32(clamping: (max(nanoseconds, last) &- last) / 1_000_000)
            guard milliseconds > 0 else { return }
            state.now = last &+ UInt64(milliseconds) &* 1_000_000
            if state.associations > 0 { usrsctp_handle_timers(milliseconds) }
        }
        // Outside of the lock: they may come back at once.
        for wake in packets.takeWoken() { wake() }
    }

    /// When `advance` has to be called next at the latest, by the clock of its last call: 10 ms later while an
    /// association is busy, a second later while all are quiet; nil while there is none. Calls of an association may
    /// make it earlier.
    package var nextDeadline: UInt64? {
        state.withLock { state in
            guard state.associations > 0 else { return nil }
            guard let now = state.now else { return 0 }
            let quiet = state.lastActivity.map { $0.addingClamped(DataChannelLimits.activityNanoseconds) } ?? 0
            let isBusy = state.unsettled > 0 || now < quiet
            return now.addingClamped(
                isBusy ? DataChannelLimits.busyTickNanoseconds : DataChannelLimits.idleTickNanoseconds
            )
        }
    }

    /// Forgets the time, so that the next call of `advance` begins another clock: for tests, each of which has its own.
    package func forgetTime() {
        state.withLock { state in
            state.now = nil
            state.lastActivity = nil
        }
    }

    /// How many associations there are; none needs `advance` when it is 0.
    package var associationCount: Int { state.withLock { $0.associations } }

    /// How many associations usrsctp itself counts as established.
    package var establishedCount: Int {
        state.withLock { _ in
            var statistics = sctpstat()
            usrsctp_get_stat(&statistics)
            return Int(Int32(bitPattern: statistics.sctps_currestab))
        }
    }

    /// Runs a body that calls usrsctp.
    func run<Result>(_ body: (inout State) -> Result) -> Result {
        state.withLock { state in UncheckedResult(body(&state)) }.value
    }
}

/// What a body gave while it held the lock. It is used by the thread that ran the body, and by no other.
private struct UncheckedResult<Value>: @unchecked Sendable {  // Stays on the thread that made it.
    let value: Value

    init(_ value: Value) { self.value = value }
}

extension UInt64 {
    fileprivate func addingClamped(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
