import ArgumentParser
import Foundation
import TurnpikeClient

/// A coordinator that has joined signaling under an id.
enum PeerSession {
    /// - Parameters:
    ///   - id: nil for that of the environment, or a drawn one.
    ///   - knowsNAT: whether the NAT is to be known by then, which takes up to a second longer.
    /// - Throws: status 78 where the environment names no signaling server, 1 where it cannot be joined.
    static func joined(
        as id: String?,
        knowsNAT: Bool,
        log: EventLog
    ) async throws -> (coordinator: P2PCoordinator, id: PeerID) {
        let console = Console.current
        let configuration = Configuration.fromEnvironment(console.environment)
        guard configuration.signalingServer != nil else {
            throw CommandError.environment(
                configuration.issues.map(\.description) + [
                    "there is no signaling server; set SIGNALING_SERVER (on the server, turnpike user add NAME "
                        + "--format env prints it)"
                ]
            )
        }
        for issue in configuration.issues {
            let words = issue.description.escapedForTerminal
            log.tell(EventLine(.note, message: issue.description), "turnpike-peer: \(words)")
        }
        let own = id.map { PeerID($0) } ?? configuration.peerID ?? drawn(for: configuration.username)
        let coordinator = P2PCoordinator(configuration)
        do {
            if knowsNAT { try await coordinator.initialize() }
            do {
                try await coordinator.join(as: own)
            } catch {
                // Where nothing else works either, all of it is to be said.
                try await coordinator.initialize()
                throw error
            }
        } catch let failure as InitializationFailure {
            await coordinator.shutdown()
            throw CommandError(status: ExitStatus.failed, lines: failure.issues.map(\.escapedForTerminal))
        } catch {
            await coordinator.shutdown()
            throw CommandError.failed("\(error)".escapedForTerminal)
        }
        return (coordinator, own)
    }

    /// Connects, and shuts the coordinator down where that does not work.
    /// - Throws: status 1 with the reason, and what was tried.
    static func connection(
        to peer: String,
        by coordinator: P2PCoordinator,
        options: ConnectOptions = ConnectOptions(),
        showsAttempts: Bool = false,
        log: EventLog
    ) async throws -> Connection {
        do {
            return try await coordinator.connectToPeer(PeerID(peer), options: options)
        } catch {
            await coordinator.shutdown()
            guard let failure = error as? ConnectionFailure else {
                throw CommandError.failed("\(error)".escapedForTerminal)
            }
            if log.isJSON {
                log.tell(EventLine(failure), nil)
                throw ExitCode(ExitStatus.failed)
            }
            var lines = ["no connection to \(peer.escapedForTerminal): \(failure.error.escapedForTerminal)"]
            if showsAttempts {
                lines += failure.report.description.split(separator: "\n").map { String($0).escapedForTerminal }
            }
            throw CommandError(status: ExitStatus.failed, lines: lines)
        }
    }

    /// A user has the ids that begin with the user's name. What follows is drawn, so that two at once are two.
    private static func drawn(for username: String?) -> PeerID {
        let end = String((0..<6).compactMap { _ in "abcdefghjkmnpqrstuvwxyz23456789".randomElement() })
        // A time-limited username begins with its expiry.
        let user = username?.split(separator: ":").last.map(String.init)
        return PeerID(user.map { "\($0)/\(end)" } ?? end)
    }

    /// `by udp-hole-punch, srflx to prflx 192.0.2.1:4711, 12.3 ms`.
    static func words(_ connection: Connection) -> String {
        var parts = ["by \(connection.method.word)"]
        if let path = connection.path { parts.append("\(path)") }
        if let rtt = connection.rtt { parts.append(Figure.time(nanoseconds: rtt.nanoseconds)) }
        return parts.joined(separator: ", ")
    }
}

extension ConnectionMethod {
    var word: String { rawValue }
}
