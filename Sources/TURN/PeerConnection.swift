import STUN

/// A TCP connection between a relayed address and a peer (RFC 6062 section 3), as the engine keeps it: what it is for
/// and how long it may wait. The socket is the host's, under the same number.
struct PeerConnection: BitwiseCopyable {
    /// As the client knows it.
    var peer: Endpoint
    var allocation: UInt32
    /// The next one of the same allocation.
    var next: UInt32
    /// CONNECTION-ID. It also tells one use of the slab's slot from the next.
    var id: UInt32
    var phase: Phase
    /// When it ends unless it comes into its next phase; `.max` once a client's connection is bound to it.
    var deadlineNanoseconds: UInt64

    enum Phase {
        /// Asked for by Connect, not there yet.
        case connecting
        /// There, and no client's connection is bound to it.
        case waiting
        case bound
    }
}

/// A peer connection, for its host.
package struct PeerConnectionKey: Hashable, Sendable, BitwiseCopyable {
    /// Its number, below `Limits.peerConnectionsPerWorker`. It is given again once `.close` has been said, or
    /// `peerConnectionEnded` called.
    package var number: UInt32
    /// Its CONNECTION-ID, which is not given again so soon.
    package var id: UInt32

    package init(number: UInt32, id: UInt32) {
        self.number = number
        self.id = id
    }
}

/// What an engine wants done for TCP allocations; in order.
package enum StreamEffect: Sendable {
    /// Begin to connect to `peer` from the relayed address `source`, and call `peerConnected` or
    /// `peerConnectionFailed`.
    case connect(PeerConnectionKey, to: Endpoint, from: Endpoint)
    /// Close the peer connection, and the client's that is bound to it.
    case close(PeerConnectionKey)
    /// Send a message to a client over its control connection.
    case send(ClientMessage)
}

package struct ClientMessage: Sendable {
    /// The host's number of what the client came in by, as `receive` was told it.
    package var listener: UInt32
    package var tuple: FiveTuple
    package var bytes: [UInt8]
    /// The answer to a Connect, and not a message of our own.
    package var isAnswer: Bool
}

/// A ConnectionBind that was proved to come from `user`. Both answers are written and signed already, since the worker
/// that has the peer connection, and decides, may be another one.
package struct ConnectionBinding: Sendable {
    package var id: UInt32
    /// The name without the expiry of a time-limited credential.
    package var user: String
    /// The request's nonce, where it was not made for the connection it came by: RFC 6062 section 4.3 has a client use
    /// the credentials of its control connection, and there are clients that take the nonce from there and no other.
    package var borrowedNonce: [UInt8]?
    package var success: [UInt8]
    package var failure: [UInt8]

    package init(id: UInt32, user: String, borrowedNonce: [UInt8]? = nil, success: [UInt8], failure: [UInt8]) {
        self.id = id
        self.user = user
        self.borrowedNonce = borrowedNonce
        self.success = success
        self.failure = failure
    }
}

/// Which CONNECTION-IDs a worker gives: a client's connection may come to any worker, and the number says where the
/// peer's is. Of its 32 bits all are random but for what tells the worker.
package struct ConnectionIDs: Sendable {
    private let worker: UInt32
    private let workers: UInt32

    /// - Parameters:
    ///   - worker: below `workers`.
    ///   - workers: at least 1.
    package init(worker: Int, of workers: Int) {
        self.workers = UInt32(clamping: max(workers, 1))
        self.worker = UInt32(clamping: max(worker, 0)) % self.workers
    }

    /// The worker that has given this number, if any has.
    package func owner(of id: UInt32) -> Int { Int(id % workers) }

    /// A number of this worker's, or nil where the random one does not serve: it is 0, or too near to the greatest.
    func make(from random: UInt32) -> UInt32? {
        let (id, overflow) = (random - random % workers).addingReportingOverflow(worker)
        return overflow || id == 0 ? nil : id
    }
}
