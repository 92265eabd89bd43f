import Synchronization

/// How many connections all workers together may hold, and how much may wait in their queues. The kernel spreads
/// connections over the workers as it likes, so a share for each would refuse some while others had room.
final class ConnectionBudget: Sendable {
    let limit: Int
    let queueLimitBytes: Int
    private let connections = Atomic<Int>(0)
    private let queuedBytes = Atomic<Int>(0)

    init(limit: Int, queueLimitBytes: Int) {
        self.limit = limit
        self.queueLimitBytes = queueLimitBytes
    }

    /// Workers may pass it by one each when they accept at the same moment.
    var hasRoom: Bool { connections.load(ordering: .relaxed) < limit }

    /// Whether a peer connection may come: it is worth nothing without the client's that will ask for it.
    var hasRoomForTunnel: Bool { connections.load(ordering: .relaxed) < limit - 1 }

    var used: Int { connections.load(ordering: .relaxed) }

    /// Whether a queue may grow.
    var hasQueueRoom: Bool { queuedBytes.load(ordering: .relaxed) < queueLimitBytes }

    func add(_ count: Int) { connections.wrappingAdd(count, ordering: .relaxed) }

    func addQueued(_ bytes: Int) { queuedBytes.wrappingAdd(bytes, ordering: .relaxed) }
}
