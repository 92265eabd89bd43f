import Synchronization

/// How many connections there are, by source network, and how many handshakes. It stands before everything: a
/// connection that it does not admit costs an accept and a close.
final class ConnectionTally: Sendable {
    private struct State {
        var bySource: [UInt64: Int] = [:]
        var total = 0
        var handshakes = 0
        var refused: UInt64 = 0
        var perSourceMax: Int
    }

    private let state: Mutex<State>

    init(perSourceMax: Int) { state = Mutex(State(perSourceMax: perSourceMax)) }

    /// Takes a place for a connection, and for its handshake where there is one; `release` gives it back.
    func admit(_ source: ClientSource, withHandshake: Bool) -> Bool {
        state.withLock { state in
            guard state.total < GatewayLimits.connections,
                !withHandshake || state.handshakes < GatewayLimits.handshakes,
                state.bySource[source.network, default: 0] < state.perSourceMax + GatewayLimits.connectionsBesides
            else {
                state.refused &+= 1
                return false
            }
            state.bySource[source.network, default: 0] += 1
            state.total += 1
            if withHandshake { state.handshakes += 1 }
            return true
        }
    }

    func release(_ source: ClientSource) {
        state.withLock { state in
            let left = state.bySource[source.network, default: 1] - 1
            state.bySource[source.network] = left > 0 ? left : nil
            state.total -= 1
        }
    }

    func handshakeEnded() { state.withLock { $0.handshakes -= 1 } }

    func allow(perSource: Int) { state.withLock { $0.perSourceMax = perSource } }

    var counts: (total: Int, handshakes: Int, refused: UInt64) {
        state.withLock { ($0.total, $0.handshakes, $0.refused) }
    }
}
