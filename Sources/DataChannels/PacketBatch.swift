/// Packets one behind the other in memory that is used again, so that a packet costs a copy and nothing more.
struct PacketBatch {
    private var bytes: [UInt8] = []
    private var ends: [Int] = []
    /// How many of them were taken.
    private var taken = 0

    /// How many wait.
    var count: Int { ends.count - taken }

    mutating func append(_ packet: UnsafeRawBufferPointer) {
        bytes.append(contentsOf: packet)
        ends.append(bytes.count)
    }

    /// - Returns: where the next packet is; nil when none waits.
    mutating func takeNext() -> Range<Int>? {
        guard taken < ends.count else { return nil }
        taken += 1
        return (taken == 1 ? 0 : ends[taken - 2])..<ends[taken - 1]
    }

    func withPacket<Result>(_ range: Range<Int>, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        bytes.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[range])) }
    }

    mutating func removeAll() {
        // A burst's memory is not kept for good.
        let isLarge = bytes.capacity > DataChannelLimits.keptPacketBytes
        bytes.removeAll(keepingCapacity: !isLarge)
        ends.removeAll(keepingCapacity: !isLarge)
        taken = 0
    }
}
