import STUN
import TURN

/// RFC 6062 in the lab: the client of a TCP allocation, and what the engine wants done for it.
extension Lab {
    /// A client by TCP.
    func streamClient(_ username: String = "alice", port: UInt16 = 40_000) -> Client {
        let client = client(username, at: Endpoint("198.51.100.7", port))
        client.tuple.transport = .tcp
        return client
    }

    func takeEffects() -> [StreamEffect] { engine.takeEffects() }

    /// The connection that the last Connect asks for; everything else that is wanted is forgotten.
    func takeConnect() -> (key: PeerConnectionKey, peer: Endpoint, source: Endpoint)? {
        for case .connect(let key, let peer, let source) in takeEffects() { return (key, peer, source) }
        return nil
    }

    func takeClosed() -> [PeerConnectionKey] {
        takeEffects().compactMap { if case .close(let key) = $0 { key } else { nil } }
    }

    func connected(_ key: PeerConnectionKey) { engine.peerConnected(key, at: moment) }

    func failed(_ key: PeerConnectionKey) { engine.peerConnectionFailed(key) }

    func ended(_ key: PeerConnectionKey) { engine.peerConnectionEnded(key) }

    func claim(_ id: UInt32, by user: String = "alice") -> PeerConnectionKey? {
        claim(ConnectionBinding(id: id, user: user, success: [], failure: []))
    }

    func claim(_ binding: ConnectionBinding) -> PeerConnectionKey? { engine.claim(binding, at: moment) }

    func isCurrent(_ key: PeerConnectionKey) -> Bool { engine.isCurrent(key) }

    /// A peer connects to the client's relay.
    func arrive(_ peer: Endpoint, at client: Client) -> PeerConnectionKey? {
        engine.peerArrived(from: peer, allocation: allocation(of: client.tuple), at: moment)
    }

    func allowance(of key: PeerConnectionKey) -> Int {
        engine.streamAllowance(of: key, now: moment.monotonicNanoseconds)
    }

    func count(_ key: PeerConnectionKey, toPeer: Int = 0, toClient: Int = 0) {
        engine.countStream(key, toPeer: toPeer, toClient: toClient, now: moment.monotonicNanoseconds)
    }
}

extension Array where Element == StreamEffect {
    /// The messages for clients among them.
    var messages: [Answer] {
        compactMap { if case .send(let message) = $0 { Answer(message.bytes) } else { nil } }
    }
}

extension Client {
    func allocateStream(_ more: (inout MessageBuilder) -> Void = { _ in }) -> Answer? {
        perform(.allocate) { builder in
            builder.append(.requestedTransport, 0x0600_0000 as UInt32)
            more(&builder)
        }
    }

    /// - Returns: nil where the engine says nothing yet, as it should.
    func connect(_ peer: Endpoint) -> Answer? {
        perform(.connect) { $0.append(.xorPeerAddress, xor: peer) }
    }

    /// - Parameter other: whose realm and nonce are used, as if they were its own.
    func connectionBind(_ id: UInt32, borrowingFrom other: Client? = nil) -> Lab.Outcome {
        if nonce.isEmpty { challenge() }
        if let other {
            var signing = signing()
            signing.nonce = other.nonce
            return send(request(.connectionBind, signing: signing) { $0.append(.connectionID, id) })
        }
        return send(request(.connectionBind, signing: signing()) { $0.append(.connectionID, id) })
    }
}

extension Lab.Outcome {
    var binding: ConnectionBinding? { if case .bind(let binding) = self { binding } else { nil } }
}

extension Answer {
    var connectionID: UInt32? { value(.connectionID)?.reduce(0) { $0 << 8 | UInt32($1) } }
}
