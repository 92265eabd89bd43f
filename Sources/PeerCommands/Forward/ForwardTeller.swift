import Synchronization
import TurnpikeClient

/// Says on standard error what becomes of forwarded connections, and of the connections they go over. A peer or a
/// browser may make thousands: beyond some lines a second it counts them alone.
final class ForwardTeller: Sendable {
    private struct State {
        var secondBegan: ContinuousClock.Instant?
        var lines = 0
        var untold = 0
    }

    private let log: EventLog
    private let state = Mutex(State())

    init(_ log: EventLog) { self.log = log }

    func tell(_ event: ForwardEvent) {
        let now = ContinuousClock.now
        let (mayTell, untold) = state.withLock { state in
            if state.secondBegan.map({ $0.duration(to: now) >= .seconds(1) }) ?? true {
                (state.secondBegan, state.lines) = (now, 0)
            }
            state.lines += 1
            guard state.lines <= Self.linesPerSecond else {
                state.untold += 1
                return (false, 0)
            }
            defer { state.untold = 0 }
            return (true, state.untold)
        }
        guard mayTell else { return }
        if untold > 0 {
            log.tell(
                EventLine(.untold).with { $0.count = untold },
                "and \(Figure.count(UInt64(untold), "line")) more like these"
            )
        }
        log.tell(Self.line(event), Self.words(event))
    }

    /// What happens to peer connections, for `forward`.
    func tell(_ event: Event) {
        switch event {
        case .connected(let connection):
            log.tell(
                EventLine(.connected, connection),
                "\(name(connection.peerId)) is connected \(PeerSession.words(connection))"
            )
        case .pathChanged(let connection, let path):
            log.tell(
                EventLine(.path, connection),
                path == nil
                    ? "\(name(connection.peerId)) has no path at the moment; connections wait"
                    : "\(name(connection.peerId)) is reached \(PeerSession.words(connection))"
            )
        // What ends with this program needs no word.
        case .disconnected where Interruption.isRequested: break
        case .disconnected(let connection, let reason):
            log.tell(
                EventLine(.disconnected, peer: connection.peerId, message: reason),
                "\(name(connection.peerId)) is gone: \(reason.escapedForTerminal); its connections are cut, and the "
                    + "next one connects anew"
            )
        // Failed attempts come as events of the forwarding too, with what follows from them.
        case .connectionFailed, .initialized, .peerRegistered, .natChanged, .shutdown: break
        }
    }

    private static func line(_ event: ForwardEvent) -> EventLine {
        func line(_ name: EventLine.Name, _ peer: PeerID, _ target: String, _ message: String? = nil) -> EventLine {
            EventLine(name, peer: peer, message: message).with { $0.target = target }
        }
        func refused(_ name: EventLine.Name, _ peer: PeerID, _ target: String, _ refusal: ForwardRefusal) -> EventLine {
            line(name, peer, target, refusal.explanation).with { $0.reason = "\(refusal.reason)" }
        }
        return switch event {
        case .accepted(let peer, let target): line(.accepted, peer, target)
        case .declined(let peer, let target, let refusal): refused(.declined, peer, target, refusal)
        case .unreachable(let failure): EventLine(failure, .unreachable)
        case .refused(let peer, let target, let refusal): refused(.refused, peer, target, refusal)
        case .unanswered(let peer, let target): line(.unanswered, peer, target)
        case .broken(let peer, let target, let error): line(.broken, peer, target, "\(error)")
        case .crowded(let peer, let limit): EventLine(.crowded, peer: peer).with { $0.count = limit }
        }
    }

    private static func words(_ event: ForwardEvent) -> String {
        switch event {
        case .accepted(let peer, let target):
            "\(name(peer)) is forwarded to \(target.escapedForTerminal)"
        case .declined(let peer, let target, let refusal):
            "\(name(peer)) is not forwarded to \(target.escapedForTerminal): \(refusal.explanation.escapedForTerminal)"
        case .unreachable(let failure):
            "no connection to \(name(failure.peerId)): \(failure.error.escapedForTerminal); the next connection tries "
                + "again"
        case .refused(let peer, let target, let refusal):
            "\(name(peer)) does not connect to \(target.escapedForTerminal): \(words(refusal))"
        case .unanswered(let peer, let target):
            "\(name(peer)) says nothing about \(target.escapedForTerminal); check that it runs turnpike-peer listen, "
                + "of this version or a later one"
        case .broken(let peer, let target, let error):
            "\(name(peer)): a connection to \(target.isEmpty ? "nowhere" : target.escapedForTerminal) was cut: \(error)"
        case .crowded(let peer, let limit):
            "\(name(peer)): \(limit) connections are open, and another was cut; close some, or run a second forward"
        }
    }

    /// The other side's own words, and what this side can do.
    private static func words(_ refusal: ForwardRefusal) -> String {
        let explanation = refusal.explanation.escapedForTerminal
        return switch refusal.reason {
        case .notAllowed, .tooMany, .failed: explanation
        case .refused: "nothing listens there; start the server on the peer's machine, or name its port after --to"
        case .unreachable: "there is no way to it from the peer's machine (\(explanation))"
        case .timedOut: "it does not answer the peer's machine; a firewall may drop it, or no such host be there"
        case .unknownHost: "the peer's machine knows no such name; check its spelling"
        }
    }

    private static func name(_ peer: PeerID) -> String { peer.description.escapedForTerminal }

    private func name(_ peer: PeerID) -> String { Self.name(peer) }

    private static let linesPerSecond = 20
}
