/// What one side does so that two NATs let each other's packets in though at least one of them has another port for
/// each destination. Both sides derive it from the same two reports.
package enum PunchPlan: Hashable, Sendable {
    /// How the side with the changing port has its ports.
    package enum Ports: Hashable, Sendable {
        /// It counts: two sockets that ask a server enclose a third one's port.
        case counted(step: Int)
        /// It takes the socket's own where that is free.
        case preserved
        /// Any of these, and of some beside them.
        case block(ClosedRange<UInt16>)
        case any
    }

    /// This side has one address for everybody: it tells it, and sends to the ports that the peer may have.
    case ask(Ports)
    /// The other half of that: sockets that send to the peer's one address, so that their ports let it in.
    case open(Ports)
    /// Both have one address for everybody, and have not met all the same: each tells the port that a server has seen
    /// of a fresh socket, and one sends before it tells.
    case fixed
    /// Both sides count: each sends from a row of sockets to one port in the middle of the other's row.
    case meet(ownStep: Int, peerStep: Int)

    /// - Returns: nil where ordinary checks suffice, nothing helps, or somebody does not want it.
    package static func make(own: PunchReport, peer: PunchReport) -> PunchPlan? {
        // Behind one NAT it is up to that to turn packets round.
        guard own.wish != .never, peer.wish != .never, own.address != peer.address,
            PunchTarget.isAllowed(own.address), PunchTarget.isAllowed(peer.address)
        else { return nil }
        let guessesGaps = own.wish == .always || peer.wish == .always
        switch (kind(of: own, guessesGaps), kind(of: peer, guessesGaps)) {
        case (.steady, .steady): return .fixed
        case (.steady, .changing(let ports)): return ports.map { .ask($0) }
        case (.changing(let ports), .steady): return ports.map { .open($0) }
        case (.changing(.counted(let own)), .changing(.counted(let peer))):
            return .meet(ownStep: own, peerStep: peer)
        // Where both ports have to be found it takes ten thousands of packets.
        default: return nil
        }
    }

    private enum Kind {
        /// One address for everybody, and nobody let in who was not sent to.
        case steady
        case changing(Ports?)
        case other
    }

    private static func kind(of report: PunchReport, _ guessesGaps: Bool) -> Kind {
        switch report.mapping {
        case .independent:
            // Ordinary checks get in where the port does not matter.
            return report.filtering == .port || report.filtering == .unknown ? .steady : .other
        case .unknown:
            guard guessesGaps, let allocation = report.allocation, allocation != .preserving else { return .other }
            return .changing(ports(allocation))
        case .dependent:
            guard let allocation = report.allocation else { return .changing(guessesGaps ? .any : nil) }
            return .changing(ports(allocation))
        }
    }

    private static func ports(_ allocation: NATPortAllocation) -> Ports {
        switch allocation {
        case .preserving: .preserved
        case .sequential(let step): step == 0 ? .any : .counted(step: step)
        case .chunked(let block): block.count <= Limits.chunkPorts ? .block(block) : .any
        case .random: .any
        }
    }

    /// Whether it takes more than a handful of packets.
    package var isSearch: Bool {
        switch self {
        case .ask(.block), .ask(.any), .open(.block), .open(.any): true
        case .ask, .open, .meet, .fixed: false
        }
    }

    /// Whether there is nothing to guess.
    package var isCertain: Bool { self == .fixed }

    /// Whether this side begins; of two that are alike the offerer does.
    package func begins(isOfferer: Bool) -> Bool {
        switch self {
        case .ask: true
        case .open: false
        case .meet, .fixed: isOfferer
        }
    }
}
