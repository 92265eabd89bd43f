/// What worked between two networks. The idea is frp's, where the server keeps a score for each pair of addresses.
extension Hub {
    /// Takes `report`: which method has led to a path to a peer, or has not. There is no answer when all is well, and
    /// none either where it is too much or about nobody: a client has nothing to do about that.
    func takeReport(_ request: Request, _ actions: inout [Action]) throws(Refusal) {
        let message = request.message
        guard let to = try message.string(.to, bytesMax: SignalingLimits.peerIDBytesMax),
            let name = try message.string(.method, bytesMax: SignalingLimits.pathMethodBytesMax)
        else { throw Refusal(.badMessage, "to and method are required") }
        guard let method = PathMethod(rawValue: name) else {
            let known = PathMethod.allCases.map(\.rawValue).joined(separator: ", ")
            throw Refusal(.badMessage, "method must be one of \(known)")
        }
        let worked = try message.bool(.worked) ?? true
        let milliseconds = try message.wholeNumber(.milliseconds) ?? 0
        let peer = try sender(of: request, "from, to and method are required")
        guard let recipient = peers[to], sees(peer, recipient) else { throw Refusal(.notFound, "Peer \(to) not found") }
        let isTooMuch =
            request.session.user.reports.tryTake(
                of: SignalingLimits.pathReports,
                now: request.now.monotonicNanoseconds
            ) > 0
        guard !isTooMuch, let pair = networks(peer, recipient),
            memory.note(pair, method, worked: worked, milliseconds: milliseconds, now: request.now)
        else {
            counters.pathReportsIgnored &+= 1
            return
        }
        counters.pathReportsTaken &+= 1
    }

    /// An offer is about to pass: both ends are told what is known, if they want to be.
    func tellMemory(_ peer: Peer, _ recipient: Peer, _ now: HubTime, _ actions: inout [Action]) {
        guard let pair = networks(peer, recipient) else { return }
        let advice = memory.advice(pair)
        guard !advice.isEmpty else { return }
        tell(advice, to: peer, about: recipient, now, &actions)
        tell(advice, to: recipient, about: peer, now, &actions)
    }

    /// An answer passes: the two have found each other, and may report what becomes of it.
    func noteMeeting(_ peer: Peer, _ recipient: Peer, _ now: HubTime) {
        if let pair = networks(peer, recipient) { memory.meet(pair, now: now) }
    }

    private func tell(
        _ advice: [PathAdvice],
        to peer: Peer,
        about other: Peer,
        _ now: HubTime,
        _ actions: inout [Action]
    ) {
        var payload = FrameWriter(object: "kind", "memory")
        payload.list("methods", advice) { writer, advice in
            writer.element { writer in
                writer.member("method", advice.method.rawValue)
                writer.member("score", Int64(advice.score))
                writer.member("milliseconds", Int64(advice.milliseconds))
            }
        }
        let bytes = payload.finish()
        var writer = FrameWriter(
            "signal",
            reserving: 128 + peer.encodedID.count + other.encodedID.count + 2 * bytes.count
        )
        writer.member("from", raw: other.encodedID)
        writer.member("to", raw: peer.encodedID)
        writer.member("signal", raw: bytes)
        writer.member("payload", raw: bytes)
        writer.member("timestamp", now.wallMilliseconds)
        counters.pathMemoriesSent &+= 1
        // It is of use with the offer alone, so one that is away does not get it later.
        deliver(writer.finish(), to: peer.session, isLasting: false, &actions)
    }

    /// Nil where one is away or does not know of any of this.
    private func networks(_ one: Peer, _ other: Peer) -> NetworkPair? {
        guard one.wantsMemory, other.wantsMemory, let first = one.session.connection,
            let second = other.session.connection
        else { return nil }
        return NetworkPair(first.address.key.network, second.address.key.network)
    }
}
