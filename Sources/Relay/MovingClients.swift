import TURN

/// What clients that move have sent, until the worker that has their allocation answers. Bounded in every direction:
/// only clients who have proved themselves get here, and each has an allocation.
struct MovingClients {
    private var requests: [UInt64: ParkedRequest] = [:]
    private var held: [FiveTuple: [ParkedRequest]] = [:]
    private var heldCount = 0
    private var heldBytes = 0

    /// Packets that are kept here.
    var count: Int { requests.count + heldCount }

    /// Keeps a Refresh until the owner has answered.
    /// - Returns: false when there is no room.
    mutating func park(_ number: UInt64, _ request: ParkedRequest) -> Bool {
        guard requests.count < Limits.parkedRequests else { return false }
        requests[number] = request
        return true
    }

    mutating func take(request number: UInt64) -> ParkedRequest? { requests.removeValue(forKey: number) }

    /// Keeps a datagram until the allocation has come.
    /// - Returns: false when there is no room.
    mutating func hold(_ datagram: ParkedRequest) -> Bool {
        guard heldCount < Self.heldMax, heldBytes + datagram.bytes.count <= Self.heldBytesMax,
            held[datagram.tuple, default: []].count < Self.heldOfOneMax
        else { return false }
        heldCount += 1
        heldBytes += datagram.bytes.count
        held[datagram.tuple, default: []].append(datagram)
        return true
    }

    /// In the order they came.
    mutating func take(heldFor tuple: FiveTuple) -> [ParkedRequest] {
        guard let list = held.removeValue(forKey: tuple) else { return [] }
        heldCount -= list.count
        heldBytes -= list.reduce(0) { $0 + $1.bytes.count }
        return list
    }

    mutating func dropAll(into counters: inout Counters) {
        counters.drop(.parkingFull, UInt64(count))
        self = MovingClients()
    }

    /// An allocation takes microseconds to come; this is what a client sends in a tenth of a second at 20 Mbit/s.
    private static let heldOfOneMax = 256
    private static let heldMax = 4_096
    private static let heldBytesMax = 4 << 20
}
