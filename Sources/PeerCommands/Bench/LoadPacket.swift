import TurnpikeClient

/// What a packet of the load says in its first bytes: which run, which step of it, the how manieth, and when it was
/// sent. The rest is filler.
///
///     0   4 bytes  drawn for this run, so that nothing else is taken for a packet of it
///     4   4 bytes  step
///     8   8 bytes  number, from 0 on each connection and in each step
///     16  8 bytes  when it was sent, in nanoseconds of the sender's clock
package struct LoadPacket: Equatable, Sendable {
    package static let headerBytes = 24

    package var run: UInt32
    package var step: UInt32
    package var number: UInt64
    package var sentAt: UInt64

    package init(run: UInt32, step: UInt32, number: UInt64, sentAt: UInt64) {
        (self.run, self.step, self.number, self.sentAt) = (run, step, number, sentAt)
    }

    /// - Returns: nil for what is too short to be one.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headerBytes else { return nil }
        run = UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self))
        step = UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
        number = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        sentAt = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
    }

    /// - Parameter bytes: `headerBytes` at least.
    package func write(to bytes: UnsafeMutableRawBufferPointer) {
        guard bytes.count >= Self.headerBytes else { return }
        bytes.storeBytes(of: run.bigEndian, as: UInt32.self)
        bytes.storeBytes(of: step.bigEndian, toByteOffset: 4, as: UInt32.self)
        bytes.storeBytes(of: number.bigEndian, toByteOffset: 8, as: UInt64.self)
        bytes.storeBytes(of: sentAt.bigEndian, toByteOffset: 16, as: UInt64.self)
    }
}

/// Tells a packet's first arrival from another copy of it: the last 64 numbers are remembered.
package struct ArrivalWindow: Sendable {
    package enum Arrival: Sendable {
        case first
        /// First, but after one with a higher number.
        case reordered
        case duplicate
    }

    /// One above the highest number that has come.
    private var end: UInt64 = 0
    /// Bit n is the number n + 1 below `end`.
    private var seen: UInt64 = 0

    package init() {}

    package mutating func take(_ number: UInt64) -> Arrival {
        guard number < .max else { return .duplicate }
        if number >= end {
            let shift = number + 1 - end
            seen = (shift < 64 ? seen << shift : 0) | 1
            end = number + 1
            return .first
        }
        let distance = end - 1 - number
        // Too long ago to know. Networks that hold a packet for so long are rarer than those that reorder.
        guard distance < 64 else { return .reordered }
        let bit: UInt64 = 1 << distance
        if seen & bit != 0 { return .duplicate }
        seen |= bit
        return .reordered
    }
}
