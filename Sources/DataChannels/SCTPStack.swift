import CUsrSCTP
import Synchronization

/// The process's one SCTP stack. usrsctp keeps its associations and its timers in global variables, so every call of it
/// is made here, one at a time.
///
/// The stack has no clock for its timers: someone calls `advance` about every 10 ms while there are associations. All
/// share the same time. Four things usrsctp reads from the system's clock all the same: round-trip times, how long a
/// path was idle before a heartbeat, the lifetime of a message on a channel with `maxLifetime`, and whether a packet
/// was sent long enough ago to be sent again at a timeout.
package final class SCTPStack: Sendable {
    package static let shared = SCTPStack()

    let packets = PacketTable()
    private let state: Mutex<State>

    struct State {
        var associations = 0
        /// Numbers up to this are registered with usrsctp.
        var registered = 0
        /// When `advance` was called last.
        var now: Int64?
        /// What is read is put here first.
        let scratch: UnsafeMutableRawBufferPointer
    }

    private init() {
        // Never freed, as the stack is not.
        let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: DataChannelLimits.readBytes, alignment: 16)
        state = Mutex(State(scratch: scratch))
        turnpike_sctp_start { address, packet, length, _, _ in
            SCTPStack.shared.packets.append(
                UnsafeRawBufferPointer(start: packet, count: length),
                to: Int(bitPattern: address)
            )
            return 0
        }
    }

    /// Lets the timers of all associations see that time passed, and calls the `wake` of each that has something to do.
    ///
    /// Several callers may share one clock. A time before the last one begins another clock, so what passed is not
    /// known and counts as nothing.
    /// - Parameter nanoseconds: a monotonic time. Less than a millisecond is kept for the next call.
    package func advance(to nanoseconds: Int64) {
        state.withLock { state in
            guard let last = state.now, nanoseconds >= last else {
                state.now = nanoseconds
                return
            }
            let milliseconds = UInt32(clamping: (nanoseconds &- last) / 1_000_000)
            guard milliseconds > 0 else { return }
            state.now = last &+ Int64(milliseconds) &* 1_000_000
            if state.associations > 0 { usrsctp_handle_timers(milliseconds) }
        }
        // Outside of the lock: they may come back at once.
        for wake in packets.takeWoken() { wake() }
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
private struct UncheckedResult<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) { self.value = value }
}
