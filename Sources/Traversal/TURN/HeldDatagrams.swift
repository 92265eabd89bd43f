import STUN

/// Datagrams that wait for the permission of their peer, the newest few of each. ICE makes a pair and sends its first
/// check in one turn; without this the check by one's own relay would be lost, and come half a second later.
struct HeldDatagrams {
    private struct Datagram {
        var peer: Endpoint
        var bytes: [UInt8]
        var heldAt: UInt64
    }

    /// In the order in which they came.
    private var datagrams: [Datagram] = []
    private var byteCount = 0

    /// Older ones of the same peer give way, and then the oldest of all.
    mutating func hold(_ bytes: UnsafeRawBufferPointer, to peer: Endpoint, now: UInt64) {
        if datagrams.count(where: { $0.peer == peer }) >= Limits.heldPerPeer,
            let oldest = datagrams.firstIndex(where: { $0.peer == peer })
        {
            remove(at: oldest)
        }
        while !datagrams.isEmpty,
            datagrams.count >= Limits.heldDatagrams || byteCount + bytes.count > Limits.heldBytes
        {
            remove(at: 0)
        }
        datagrams.append(Datagram(peer: peer, bytes: Array(bytes), heldAt: now))
        byteCount += bytes.count
    }

    /// Takes what is held for these addresses, the oldest first, without what is too old to be of use.
    mutating func take(_ peers: [IPAddress], now: UInt64) -> [(peer: Endpoint, bytes: [UInt8])] {
        let taken = datagrams.filter { peers.contains($0.peer.address) }
        guard !taken.isEmpty else { return [] }
        drop(peers)
        return taken.filter { now &- $0.heldAt < Limits.heldLifetime }.map { ($0.peer, $0.bytes) }
    }

    mutating func drop(_ peers: [IPAddress]) {
        datagrams.removeAll { peers.contains($0.peer.address) }
        byteCount = datagrams.reduce(0) { $0 + $1.bytes.count }
    }

    private mutating func remove(at index: Int) { byteCount -= datagrams.remove(at: index).bytes.count }
}
