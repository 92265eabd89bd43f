/// Why a connection is direct or is not, and what a person can do about it.
///
///     if let why = await coordinator.explanation(of: connection) {
///         print(why.isDirect, why.cause.rawValue, why.reason, why.advice)
///     }
public struct Explanation: Sendable, Hashable, Codable, CustomStringConvertible {
    /// What decides. The raw values stay as they are.
    public enum Cause: String, Sendable, Hashable, Codable, CaseIterable {
        /// Direct: both hosts are in one local network.
        case localNetwork = "local-network"
        /// Direct: by IPv6, which has no NAT on the way.
        case ipv6
        /// Direct: one side can be reached as it is.
        case reachable
        /// Direct: both sides have sent, so their NATs let the other in.
        case punched
        /// A relay was asked for, here or by the peer.
        case relayRequired = "relay-required"
        /// A side has no UDP.
        case udpBlocked = "udp-blocked"
        /// A side has nothing but TCP to port 443.
        case onlyPort443 = "only-port-443"
        /// One side has IPv4 alone, the other IPv6 alone.
        case noCommonFamily = "no-common-family"
        /// Both are behind one NAT, which does not lead back in what is sent to its own outside address.
        case noHairpin = "no-hairpin"
        /// Both are in one local network, and do not reach each other in it.
        case isolated
        /// The port that a side sends from cannot be known to the other.
        case unpredictablePorts = "unpredictable-ports"
        /// The NATs would let a direct path through, and nothing comes through: a firewall drops it.
        case firewall
        /// A direct path is to be expected, and is looked for.
        case underWay = "under-way"
        /// What the NATs do is not known.
        case unknown
    }

    /// What decides.
    public var cause: Cause
    /// Why, in a sentence or two.
    public var reason: String
    /// What helps; empty where nothing is to be done.
    public var advice: String

    /// The reason, and what helps.
    public var description: String { advice.isEmpty ? reason : "\(reason) \(advice)" }

    /// Whether a direct path stands.
    public var isDirect: Bool {
        switch cause {
        case .localNetwork, .ipv6, .reachable, .punched: true
        default: false
        }
    }
}

/// What an explanation goes by.
package struct Situation: Hashable, Sendable {
    package enum Side: Hashable, Sendable { case here, there }

    package var local: NetworkFacts
    package var remote: NetworkFacts
    /// Which way data takes; nil where there is none.
    package var path: Path?
    /// Who has asked for relays alone.
    package var relayRequired: Side?
    /// Every pair of addresses without a relay was tried.
    package var isSettled = false
    /// What the peer sends comes through by a pair without a relay, at least this way.
    package var isHeard = false
    /// No address of the one side is of a kind with any of the other's.
    package var lacksPairs = false
    /// The path was found by guessing a port.
    package var isGuessed = false
    /// There is a relay to fall back to.
    package var hasRelay = true

    package init(local: NetworkFacts, remote: NetworkFacts, path: Path? = nil) {
        (self.local, self.remote, self.path) = (local, remote, path)
    }
}

extension Explanation {
    package init(_ situation: Situation) {
        if let path = situation.path, !path.isRelayed {
            self.init(direct: path, situation)
            return
        }
        self =
            Self.required(situation) ?? Self.blocked(situation) ?? Self.families(situation)
            ?? Self.behindOneNAT(situation) ?? Self.betweenNATs(situation)
        if situation.path == nil, !situation.hasRelay { advise(Self.getRelay) }
    }

    private init(direct path: Path, _ situation: Situation) {
        if let address = path.address, address.isLoopback {
            self.init(cause: .localNetwork, reason: "The path is direct inside this machine.", advice: "")
        } else if let address = path.address, address.isLinkLocal {
            self.init(cause: .localNetwork, reason: "The path is direct inside the local network.", advice: "")
        } else if path.remoteAddress.hasPrefix("[") {
            self.init(cause: .ipv6, reason: "The path is direct by IPv6, which has no NAT on the way.", advice: "")
        } else if path.method == .direct, let address = path.address, address.isPrivate {
            self.init(cause: .localNetwork, reason: "The path is direct inside the local network.", advice: "")
        } else if path.method == .direct {
            self.init(
                cause: .reachable,
                reason: "The path is direct, between the hosts' own addresses.",
                advice: ""
            )
        } else {
            let pair = Self.both(situation)
            let isReached = !situation.isGuessed && [situation.local, situation.remote].contains(where: \.isReachable)
            let way = path.isTCP ? ", by TCP" : ""
            let end =
                situation.isGuessed
                ? "The port was guessed: the path is direct."
                : isReached
                    ? "The open side was reached as it is\(way): the path is direct."
                    : "Both sides have sent until the other was let in\(way): the path is direct."
            self.init(
                cause: isReached ? .reachable : .punched,
                reason: pair.isEmpty ? end : "\(pair). \(end)",
                advice: ""
            )
        }
    }

    private mutating func advise(_ more: String) { advice = advice.isEmpty ? more : "\(advice) \(more)" }

    private static let getRelay =
        "A TURN server is the way for such a pair: set TURN_SERVERS, TURN_USERNAME and TURN_PASSWORD."

    // MARK: What keeps a direct path away, most certain first

    private static func required(_ situation: Situation) -> Explanation? {
        switch situation.relayRequired {
        case .here:
            Explanation(
                cause: .relayRequired,
                reason: "Relays alone are used, because you asked for it: the peer does not learn your addresses.",
                advice: ""
            )
        case .there:
            Explanation(
                cause: .relayRequired,
                reason: "The peer uses relays alone and does not tell its addresses.",
                advice: "If that is not wanted, start the peer without --require-relay."
            )
        case nil: nil
        }
    }

    static func blocked(_ situation: Situation) -> Explanation? {
        let (here, there) = (situation.local, situation.remote)
        let isHere = here.type == .blocked
        guard isHere || there.type == .blocked else { return nil }
        let onlyPort = (isHere && here.hasOnlyPort443) || (there.type == .blocked && there.hasOnlyPort443)
        let networks =
            isHere && there.type == .blocked
            ? ("Both networks let", "both networks")
            : isHere
                ? ("Your network lets", "your network")
                : ("The peer's network lets", "the peer's network")
        let what = onlyPort ? "nothing through but TCP to port 443" : "no UDP through"
        let way =
            situation.path == nil ? "so it takes a relay by TCP or TLS" : "so data goes over the relay"
        return Explanation(
            cause: onlyPort ? .onlyPort443 : .udpBlocked,
            reason: "\(networks.0) \(what), \(way).",
            advice: "Let outgoing UDP through in the firewall of \(networks.1) for a direct path."
        )
    }

    private static func families(_ situation: Situation) -> Explanation? {
        let (here, there) = (situation.local.families, situation.remote.families)
        let differ = !here.isEmpty && !there.isEmpty && here.isDisjoint(with: there)
        guard differ || situation.lacksPairs else { return nil }
        let reason =
            differ
            ? "You have \(name(here)) alone and the peer has \(name(there)) alone, so only a relay with both joins you."
            : "None of your addresses is of a kind with any of the peer's, so only a relay joins you."
        let side = here.contains(.ipv6) ? "the peer's end" : "your end"
        return Explanation(
            cause: .noCommonFamily,
            reason: reason,
            advice: differ ? "IPv6 at \(side), beside IPv4, makes a direct path possible." : ""
        )
    }

    private static func name(_ families: Set<AddressFamily>) -> String { families.contains(.ipv6) ? "IPv6" : "IPv4" }

    private static func behindOneNAT(_ situation: Situation) -> Explanation? {
        let (here, there) = (situation.local, situation.remote)
        guard let shared = here.publicAddresses.first(where: there.publicAddresses.contains),
            here.type != .open || there.type != .open
        else { return nil }
        let address = AddressText.text(shared)
        if here.hostAddresses.contains(where: { host in there.hostAddresses.contains { host.isNear($0) } }) {
            return Explanation(
                cause: situation.isSettled ? .isolated : .underWay,
                reason: "You and the peer are in one local network behind \(address)"
                    + (situation.isSettled
                        ? ", and nothing comes through between your own addresses."
                        : "; the way inside it is being tried."),
                advice: situation.isSettled
                    ? "Let UDP in by the firewalls of both machines, and switch off client isolation of the Wi-Fi."
                    : ""
            )
        }
        // It leads back in, so the usual rules hold.
        if here.hairpin == true { return nil }
        let isCarrier = here.layers == .carrier || there.layers == .carrier
        return Explanation(
            cause: .noHairpin,
            reason: "You and the peer are behind the same address \(address) in different networks, and the NAT there "
                + "\(here.hairpin == false ? "leads nothing" : "seems to lead nothing") that is sent to its own "
                + "outside address back in (no hairpinning).",
            advice: isCarrier
                ? "It is the provider's NAT: IPv6 on both sides, or a public address for one of you, makes the path "
                    + "direct."
                : "Switch on hairpinning (NAT loopback) in that router, or join both networks by a route."
        )
    }
}

extension Path {
    /// Where data is sent to.
    var address: IPAddress? {
        guard let colon = remoteAddress.lastIndex(of: ":") else { return nil }
        let text = remoteAddress[..<colon]
        return AddressText.address(text.hasPrefix("[") ? text.dropFirst().dropLast() : text)
    }
}
