import Signaling

/// What two programs of this library tell each other beside their descriptions, in `signal` messages: each payload has
/// a `kind`, and in `session` the id of the receiver's description (RFC 8866 section 5.2), so that what belongs to an
/// attempt that is over is passed over. A peer that is no program of this library is told nothing.
extension PeerSession {
    typealias SignalUser = (JSONValue) -> Void

    /// Does nothing before the peer's description is there.
    func tell(signal kind: String, _ members: [String: JSONValue]) {
        guard let remoteDescriptionID, hasTurnpikePeer else { return }
        var members = members
        members["kind"] = .string(kind)
        members["session"] = .string(String(remoteDescriptionID))
        host.tell(.signal, .object(members), from: local, to: remote) { _ in }
    }

    /// The peer's description is there, and is that of a program of this library.
    var hasTurnpikePeer: Bool {
        link?.remoteData?.transport.iceOptions.contains(HandshakeEnvelope.option) ?? false
    }

    /// Whoever keeps its addresses to itself sends nothing but to relays.
    func startPunching(_ link: PeerLink) {
        guard !link.isRelayOnly else { return }
        let punch = PunchDriver(link) { [weak self] in
            self?.host.punchFacts
        } memory: { [weak self] in
            self?.pathMemory
        } tell: { [weak self] members in
            self?.tell(signal: PunchDriver.kind, members)
        }
        self.punch = punch
        signalUsers[PunchDriver.kind] = { [weak punch] in punch?.take($0) }
    }

    /// What is of no kind that anybody here listens for, or of another attempt, has no effect.
    func takeSignal(_ payload: JSONValue) {
        guard let kind = payload["kind"]?.string, payload["session"]?.string == String(descriptionID) else { return }
        signalUsers[kind]?(payload)
    }
}
