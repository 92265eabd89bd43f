import Accounts

/// What has happened between two samples, in lines.
struct TopFrame {
    private let before: TopSample
    private let now: TopSample
    private let seconds: Double

    init(from before: TopSample, to now: TopSample) {
        (self.before, self.now) = (before, now)
        let elapsed = before.instant.duration(to: now.instant).components
        seconds = max(Double(elapsed.seconds) + Double(elapsed.attoseconds) / 1e18, 0.001)
    }

    /// - Parameter rows: how many lines there may be.
    func lines(rows: Int) -> [String] {
        let (relay, old) = (now.status.relay, before.status.relay)
        let busy = rate(relay.busyNanoseconds, old.busyNanoseconds) / 1e7 / Double(max(relay.workers, 1))
        var lines = [
            "turnpike \(relay.version), up \(Quantity.duration(seconds: now.status.uptimeSeconds))"
                + (relay.isDraining ? ", DRAINING" : "")
        ]
        let table = [
            ["", "TO-PEERS", "TO-CLIENTS", "DROPPED", "WORKERS-BUSY"],
            [
                "bits", Quantity.bitsPerSecond(rate(relay.bytesToPeers, old.bytesToPeers) * 8),
                Quantity.bitsPerSecond(rate(relay.bytesToClients, old.bytesToClients) * 8), "",
                "\(Int(min(max(busy, 0), 100).rounded())) %",
            ],
            [
                "packets", Quantity.perSecond(rate(relay.packetsToPeers, old.packetsToPeers)),
                Quantity.perSecond(rate(relay.packetsToClients, old.packetsToClients)),
                Quantity.perSecond(rate(relay.packetsDropped, old.packetsDropped)),
            ],
        ]
        lines += Self.lines(of: table)
        let signaling = now.status.signaling
        lines.append(
            [
                Quantity.count(relay.allocations, "allocation"),
                Quantity.count(signaling.connections, "signaling connection"),
                Quantity.count(signaling.peers, "peer"), Quantity.count(signaling.rooms, "room"),
            ].joined(separator: ", ")
        )
        let room = rows - lines.count - 2
        let busiest = busiest(room)
        guard !busiest.isEmpty, room > 0 else { return Array(lines.prefix(max(rows, 1))) }
        lines.append("")
        lines += Self.lines(of: [["ALLOCATION", "USER", "CLIENT", "OVER", "TO-PEERS", "TO-CLIENT", "AGE"]] + busiest)
        return lines
    }

    private func busiest(_ count: Int) -> [[String]] {
        var known: [String: SessionsAnswer.Allocation] = [:]
        for allocation in before.sessions.allocations { known[allocation.id] = allocation }
        let rates = now.sessions.allocations.map { allocation in
            let old = known[allocation.id]
            return (
                allocation, toPeers: rate(allocation.bytesToPeers, old?.bytesToPeers ?? 0) * 8,
                toClient: rate(allocation.bytesToClient, old?.bytesToClient ?? 0) * 8
            )
        }
        let sorted = rates.sorted { first, second in
            let (one, other) = (first.toPeers + first.toClient, second.toPeers + second.toClient)
            return one == other ? first.0.id < second.0.id : one > other
        }
        return sorted.prefix(max(count, 0)).map { allocation, toPeers, toClient in
            [
                allocation.id, allocation.user.escapedForTerminal, allocation.client, allocation.transport,
                Quantity.bitsPerSecond(toPeers), Quantity.bitsPerSecond(toClient),
                Quantity.duration(seconds: allocation.ageSeconds),
            ]
        }
    }

    /// A server that was restarted in between counts from zero again.
    private func rate(_ now: UInt64, _ before: UInt64) -> Double {
        now >= before ? Double(now - before) / seconds : 0
    }

    private static func lines(of table: [[String]]) -> [String] {
        Table.text(table).split(separator: "\n", omittingEmptySubsequences: false).dropLast().map(String.init)
    }
}
