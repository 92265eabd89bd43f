import Foundation
import TurnpikeClient

/// What the original's document has for its two paths.
struct StatusAnswers: Sendable {
    let coordinator: P2PCoordinator

    func answer(_ path: String) async -> HTTPAnswer {
        if path == "/p2p/status" { return await status() }
        let prefix = "/p2p/connect/"
        // An id may have slashes of its own.
        guard path.hasPrefix(prefix), let peer = path.dropFirst(prefix.count).removingPercentEncoding, !peer.isEmpty
        else { return HTTPAnswer(404, error: "there are /p2p/status and /p2p/connect/{peerId}") }
        return await connect(peer)
    }

    private func status() async -> HTTPAnswer {
        let status = Status(
            nat: await coordinator.getNATInfo(),
            stats: await coordinator.getStats(),
            health: await coordinator.healthCheck(),
            strategy: await coordinator.getRecommendedStrategy()
        )
        return Self.answer(status)
    }

    private func connect(_ peer: String) async -> HTTPAnswer {
        do {
            let connection = try await coordinator.connectToPeer(PeerID(peer))
            let rtt = connection.rtt.map { (Double($0.nanoseconds) / 1e6).thousandths }
            return Self.answer(
                Connected(
                    connection: Connected.Summary(
                        id: connection.id,
                        peerId: connection.peerId,
                        method: connection.method,
                        path: OrNull(connection.path),
                        rttMilliseconds: OrNull(rtt)
                    )
                )
            )
        } catch let failure as ConnectionFailure {
            return HTTPAnswer(500, error: failure.error)
        } catch {
            return HTTPAnswer(500, error: "\(error)")
        }
    }

    private static func answer(_ value: some Encodable) -> HTTPAnswer {
        guard let text = try? JSON.text(value) else { return HTTPAnswer(500, error: "the answer cannot be written") }
        return HTTPAnswer(200, json: text)
    }

    private struct Status: Encodable {
        let enabled = true
        let nat: NATInfo
        let stats: Statistics
        let health: Health
        let strategy: Strategy
    }

    private struct Connected: Encodable {
        struct Summary: Encodable {
            let id: UInt64
            let peerId: PeerID
            let method: ConnectionMethod
            let path: OrNull<TurnpikeClient.Path>
            let rttMilliseconds: OrNull<Double>
        }

        let success = true
        let connection: Summary
    }
}
