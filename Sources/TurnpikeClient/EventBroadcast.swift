import Glibc
import Synchronization

/// Gives every event to every reader.
final class EventBroadcast: Sendable {
    private struct State {
        var readers: [UInt64: AsyncStream<Event>.Continuation] = [:]
        var next: UInt64 = 0
        var isFinished = false
    }

    private let state = Mutex(State())

    func subscribe() -> AsyncStream<Event> {
        let (stream, reader) = AsyncStream<Event>.makeStream(
            bufferingPolicy: .bufferingNewest(ClientLimits.waitingEvents)
        )
        let number = state.withLock { state -> UInt64? in
            guard !state.isFinished else { return nil }
            state.next &+= 1
            state.readers[state.next] = reader
            return state.next
        }
        guard let number else {
            reader.finish()
            return stream
        }
        reader.onTermination = { [weak self] _ in
            // Taken out of the lock before it is let go of: it may be the last reference.
            _ = self?.state.withLock { $0.readers.removeValue(forKey: number) }
        }
        return stream
    }

    func send(_ event: Event) {
        for reader in state.withLock({ Array($0.readers.values) }) { reader.yield(event) }
    }

    func finish() {
        let readers = state.withLock { state in
            state.isFinished = true
            defer { state.readers = [:] }
            return Array(state.readers.values)
        }
        for reader in readers { reader.finish() }
    }
}

/// Lines on standard error, for `enableDetailedLogging`.
struct DetailedLog: Sendable {
    let isEnabled: Bool

    func write(_ event: Event) {
        guard isEnabled else { return }
        let line =
            switch event {
            case .initialized: "initialized"
            case .peerRegistered(let id): "registered as \(id)"
            case .connected(let connection): "connected to \(connection.peerId) by \(Self.text(connection.path))"
            case .connectionFailed(let failure): "\(failure)"
            case .pathChanged(let connection, let path): "\(connection.peerId): path is \(Self.text(path))"
            case .natChanged(let nat): "NAT is \(nat.type.rawValue), outside address \(nat.publicIP ?? "not known")"
            case .disconnected(let connection, let reason): "\(connection.peerId): disconnected, \(reason)"
            case .shutdown: "shut down"
            }
        var text = "turnpike: \(line)\n"
        text.withUTF8 { _ = Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }

    private static func text(_ path: Path?) -> String { path.map { "\($0)" } ?? "none" }
}
