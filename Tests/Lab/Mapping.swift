import STUN

/// One binding of a NAT: an internal endpoint, the external one that stands for it, and the ends it has spoken with.
final class Mapping {
    struct Session {
        var expiry: UInt64
        /// What TCP has shown of itself, and from which side.
        var isEstablished = false
        var synFromInside = false
        var synFromOutside = false
        var finFromInside = false
        var finFromOutside = false
    }

    let transport: Transport
    let inside: Endpoint
    let outside: Endpoint
    /// A host has asked for it, and everybody may come in.
    var isExplicit = false
    /// Nanoseconds.
    private(set) var expiry: UInt64 = 0
    private(set) var sessions: [Endpoint: Session] = [:]

    init(_ transport: Transport, inside: Endpoint, outside: Endpoint) {
        self.transport = transport
        self.inside = inside
        self.outside = outside
    }

    func isLive(_ now: UInt64) -> Bool { expiry > now }

    /// Whether a packet from there may come in.
    func admits(_ remote: Endpoint, _ filtering: NATBehavior.Dependence, _ now: UInt64) -> Bool {
        switch filtering {
        case .endpointIndependent: true
        case .addressDependent: sessions.contains { $0.key.address == remote.address && $0.value.expiry > now }
        case .addressAndPortDependent: sessions[remote].map { $0.expiry > now } ?? false
        }
    }

    func refresh(_ remote: Endpoint, until time: UInt64, opens: Bool, now: UInt64) {
        expiry = max(expiry, time)
        guard opens || sessions[remote].map({ $0.expiry > now }) ?? false else { return }
        sessions[remote, default: Session(expiry: 0)].expiry = time
        // What has lapsed is forgotten when there is much of it.
        if sessions.count > 4_096 { sessions = sessions.filter { $0.value.expiry > now } }
    }

    /// Follows a connection by its flags, and says how long the NAT remembers it (RFC 5382 REQ-5).
    /// - Parameter opens: whether an unknown connection is taken note of.
    func follow(
        _ flags: Segment.Flags,
        with remote: Endpoint,
        isOutbound: Bool,
        opens: Bool,
        _ behavior: NATBehavior,
        now: UInt64
    ) {
        if flags.contains(.rst) {
            sessions[remote] = nil
            return shorten(behavior, now)
        }
        let known = sessions[remote].flatMap { $0.expiry > now ? $0 : nil }
        guard var session = known ?? (opens ? Session(expiry: 0) : nil) else { return }
        if flags.contains(.syn) {
            if isOutbound { session.synFromInside = true } else { session.synFromOutside = true }
        }
        if flags.contains(.fin) {
            if isOutbound { session.finFromInside = true } else { session.finFromOutside = true }
        }
        if session.synFromInside, session.synFromOutside { session.isEstablished = true }
        let isEnding = session.finFromInside && session.finFromOutside
        let lifetime =
            session.isEstablished && !isEnding ? behavior.tcpEstablishedSeconds : behavior.tcpTransitorySeconds
        session.expiry = now &+ nanoseconds(lifetime)
        sessions[remote] = session
        expiry = max(expiry, session.expiry)
        if isEnding { shorten(behavior, now) }
    }

    /// A connection has ended: what is left decides how long the mapping is kept.
    private func shorten(_ behavior: NATBehavior, _ now: UInt64) {
        let latest = sessions.values.map(\.expiry).max() ?? 0
        expiry = min(expiry, max(latest, now &+ nanoseconds(behavior.tcpTransitorySeconds)))
    }
}
