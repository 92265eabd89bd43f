import Accounts
import Gateway
import Relay
import Synchronization

/// Holds what workers say until somebody listens, and passes it on from then.
final class EventReceiver: Sendable {
    private struct State {
        var handler: (@Sendable (RelayEvent) -> Void)?
        var waiting: [RelayEvent] = []
    }

    private let state = Mutex(State())

    func receive(_ event: RelayEvent) {
        let handler = state.withLock { state -> (@Sendable (RelayEvent) -> Void)? in
            if state.handler == nil { state.waiting.append(event) }
            return state.handler
        }
        handler?(event)
    }

    func connect(_ handler: @escaping @Sendable (RelayEvent) -> Void) {
        let waiting = state.withLock { state -> [RelayEvent] in
            state.handler = handler
            defer { state.waiting = [] }
            return state.waiting
        }
        for event in waiting { handler(event) }
    }
}

/// Passes changed secrets to a server that is made after the one who tells of them.
final class SecretsObserver: Sendable {
    private let handler = Mutex<(@Sendable ([SharedSecret]) -> Void)?>(nil)

    func tell(_ secrets: [SharedSecret]) {
        let handler = handler.withLock { $0 }
        handler?(secrets)
    }

    func connect(_ new: @escaping @Sendable ([SharedSecret]) -> Void) { handler.withLock { $0 = new } }
}

/// Passes a wish for metrics to a server that is made after the listener.
final class MetricsSource: Sendable {
    private let collect = Mutex<(@Sendable () async -> String)?>(nil)

    func connect(_ new: @escaping @Sendable () async -> String) { collect.withLock { $0 = new } }

    func page() async -> String {
        let collect = collect.withLock { $0 }
        return await collect?() ?? ""
    }
}

/// The gateway, for those who are made before it.
final class GatewayBox: Sendable {
    private let gateway = Mutex<GatewayService?>(nil)

    var value: GatewayService? { gateway.withLock { $0 } }

    func connect(_ new: GatewayService) { gateway.withLock { $0 = new } }
}
