/// How a path between two peers came about, as they report it to the server.
package enum PathMethod: String, CaseIterable, Sendable {
    /// Between the hosts' own addresses.
    case direct
    /// Both sent until their NATs let the other in.
    case udpHolePunch = "udp-hole-punch"
    /// The outside ports of a NAT that counts them were guessed.
    case portPrediction = "port-prediction"
    /// Many ports were opened on one side, and many tried from the other.
    case birthday
    /// A router was asked for a port (PCP, NAT-PMP, UPnP-IGD).
    case portMapping = "port-mapping"
    case tcpHolePunch = "tcp-hole-punch"
    /// Nothing but a TURN server.
    case relay = "turn-relay"

    /// Its place in a record.
    var index: Int {
        switch self {
        case .direct: 0
        case .udpHolePunch: 1
        case .portPrediction: 2
        case .birthday: 3
        case .portMapping: 4
        case .tcpHolePunch: 5
        case .relay: 6
        }
    }
}

/// What is known of one method between two networks.
package struct PathAdvice: Hashable, Sendable {
    package var method: PathMethod
    /// -10 for what never worked to 10 for what always did.
    package var score: Int
    /// How long it took, on the way of an average; 0 where it never worked.
    package var milliseconds: Int

    package init(method: PathMethod, score: Int, milliseconds: Int) {
        (self.method, self.score, self.milliseconds) = (method, score, milliseconds)
    }
}
